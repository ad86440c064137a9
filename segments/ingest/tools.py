"""What a job works with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest.brake import NEVER
from segments.ingest.merge import PAIRS_PER_BATCH


class FileTools(Protocol):
    """What the files that are kept are seen to with, while the store may be away."""

    @property
    def ledger(self) -> AsyncEngine:
        """Says whose files they are."""

    @property
    def blobs(self) -> Blobs:
        """The files."""

    @property
    def spool_dir(self) -> Path:
        """Where there is room for one."""

    @property
    def now_s(self) -> Callable[[], float]:
        """The time."""


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
