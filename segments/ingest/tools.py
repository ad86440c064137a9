"""What a job works with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest.brake import NEVER
from segments.ingest.merge import PAIRS_PER_BATCH


@dataclass(frozen=True)
class Tools:
    """What a job works with."""

    ledger: AsyncEngine
    redis: Redis
    blobs: Blobs
    spool_dir: Path
    now_s: Callable[[], float]
    pairs_per_batch: int = PAIRS_PER_BATCH
    max_removed_share: float = NEVER  # of an audience, by one file
