"""The findings of an examination, and the deployment that is examined."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

SETTLES_S = 3.0
"""Loaders look once a second: a longer difference does not pass."""

_LOOK_EVERY_S = 0.25


class Grade(StrEnum):
    """The severity of a finding."""

    GOOD = "ok"
    POOR = "warn"  # works, and could work better
    BAD = "FAIL"  # bids pass through, or data would be lost


class Finding(NamedTuple):
    """The result of a check, and its cure."""

    grade: Grade
    what: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """The deployment under examination; its URLs may hold passwords."""

    ledger_url: str = field(repr=False)
    store_url: str = field(repr=False)
    bids_store_url: str = field(repr=False)
    """The store as the bid listener reaches it."""
    embedded_store: bool
    expected_ids: int
    """The number of persons that a new store is laid out for."""
    blobs_at: str | Path = field(repr=False)
    data_dir: Path
    reserve_bytes: int | None
    """Disk space that files leave free: see `segments.files.disk`."""


async def settled(look: Callable[[], Awaitable[Finding]]) -> Finding:
    """Return a check's finding; repeat a bad one for up to `SETTLES_S`."""
    until_s = time.monotonic() + SETTLES_S
    while True:
        finding = await look()
        if finding.grade is not Grade.BAD or time.monotonic() > until_s:
            return finding
        await asyncio.sleep(_LOOK_EVERY_S)
