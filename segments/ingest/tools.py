"""A job's tools."""

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
    """For kept files, without the store."""

    @property
    def ledger(self) -> AsyncEngine:
        """Knows the files' owners."""

    @property
    def blobs(self) -> Blobs:
        """Holds the files."""

    @property
    def spool_dir(self) -> Path:
        """The directory for a spool."""

    @property
    def reserve_bytes(self) -> int | None:
        """The part of its disk to leave free: see `segments.files.disk`."""

    @property
    def now_s(self) -> Callable[[], float]:
        """The clock."""


@dataclass(frozen=True)
class Tools:
    """A job's tools."""

    ledger: AsyncEngine
    redis: Redis
    blobs: Blobs
    spool_dir: Path
    now_s: Callable[[], float]
    pairs_per_batch: int = PAIRS_PER_BATCH
    max_removed_share: float = NEVER  # of an audience, by one file
    reserve_bytes: int | None = None  # of the disk of `spool_dir`: see `segments.files.disk`
