"""Checks the delivered files that a rebuild would read."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from obstore.exceptions import BaseError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.files.obstore_errors import RightMissing
from segments.model.job import Job, JobState
from segments.model.stop_reason import Stopped
from segments.runtime.causes import DirectoryGone
from segments.upkeep.doctor.findings import Deployment, Finding, Grade
from segments.upkeep.kept_files import jobs_with_files, named, still_named, without_file

_READ = 5
_READ_BYTES = 16 << 20
"""How many files of the newest jobs are read to the end, and their largest size."""


class _Tools(NamedTuple):
    ledger: AsyncEngine
    blobs: Blobs
    spool_dir: Path
    now_s: Callable[[], float] = time.time
    reserve_bytes: int | None = None


async def look_at_files(deployment: Deployment, ledger: AsyncEngine) -> Finding:
    """
    Look for missing files, and check that the newest can be read.

    Reading all of them would take as long as a rebuild.
    """
    try:
        wanted = await jobs_with_files(ledger)
        if not wanted:
            return Finding(Grade.GOOD, "files: a rebuild would read none")
        if isinstance(deployment.blobs_at, Path) and not deployment.blobs_at.is_dir():
            raise DirectoryGone
        blobs = Blobs.looked_at(deployment.blobs_at)
        missing = await without_file(ledger, blobs, wanted)
        gone = {job.id for job in missing}
        to_read = [job for job in wanted if job.id not in gone and _is_read(job)]
        damaged = await still_named(
            ledger, await _damaged(deployment.data_dir, _read_with(ledger, blobs), to_read[-_READ:])
        )
    except (OSError, BaseError) as error:
        return Finding(
            Grade.BAD,
            f"files: their storage can't be read ({_told(error)}): see SEGMENTS_BLOB_URL,"
            " its disk or bucket, and the rights there; until then files are refused and jobs wait",
        )
    if missing or damaged:
        said = [
            f"{what}: {named(found)}"
            for what, found in (("missing", missing), ("damaged", damaged))
            if found
        ]
        return Finding(
            Grade.BAD,
            f"files: {'; '.join(said)}; bring them back from a backup, for a rebuild stops there,"
            " and with --skip-missing lacks what they hold",
        )
    return Finding(Grade.GOOD, f"files: all {len(wanted):,} that a rebuild would read are there")


def _read_with(ledger: AsyncEngine, blobs: Blobs) -> Callable[[str], _Tools]:
    return lambda folder: _Tools(ledger, blobs, Path(folder))


def _is_read(job: Job) -> bool:
    return job.state is JobState.DONE and job.report.size_bytes <= _READ_BYTES


async def _damaged(
    data_dir: Path, tools: Callable[[str], _Tools], to_read: Sequence[Job]
) -> list[Job]:
    # The readers of files take 15 MB, which a console needs for this alone.
    from segments.ingest.spool import Spool  # noqa: PLC0415
    from segments.upkeep.replay import read_again  # noqa: PLC0415

    damaged = []
    # In a container nothing else can be written; elsewhere there may be no data directory.
    with tempfile.TemporaryDirectory(dir=data_dir if data_dir.is_dir() else None) as folder:
        for job in to_read:
            try:
                with Spool(Path(folder)) as spool:
                    await read_again(job, tools(folder), spool)
            except (Stopped, FileNotFoundError):
                damaged.append(job)
    return damaged


def _told(error: Exception) -> str:
    return f"it {error}" if isinstance(error, RightMissing) else type(error).__name__
