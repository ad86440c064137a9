"""
The kept file of a job, and its contents without erased persons.

`segments.upkeep.scrub.erased_lines` selects the lines to remove. An archive is rewritten as a
`.gz`; a `.zip` always, as members beside its file are not searched. Remaining lines are written
elsewhere: job and file stay unchanged here.

All functions block: call them in a worker thread.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import IO, NamedTuple, cast

from isal import igzip

from segments.files.blobs import Blobs
from segments.ingest.crm_audience.columns import columns_of
from segments.ingest.file_kinds import parser_of_kept
from segments.ingest.read import Reading, delivered_blocks
from segments.ingest.spool import Spool
from segments.ingest.text import text_blocks
from segments.ingest.unpack import is_archive, is_zip, plain_blocks
from segments.ingest.validate import SCRUBBED_DIGEST, order_as_kept
from segments.model.job import Job, JobState, Scrubbed
from segments.model.stop_reason import Stopped, StopReason
from segments.upkeep.scrub.erased_lines import ErasedIds, LinesThatStay, Rows, kept_blocks

_GZIP_LEVEL = 1


class Written(NamedTuple):
    """The result of writing a scrubbed file."""

    digest: str  # `SCRUBBED_DIGEST`, in hex
    dropped: int  # lines or rows that were removed


@dataclass(frozen=True)
class RetainedFile:
    """A job's file, as named when the job was read."""

    job: Job
    blobs: Blobs

    def is_to_become_ids(self) -> bool:
        """
        Tell whether the file is yet to be reduced to ids.

        Until then it is not searched, and counts as not scrubbed.
        """
        if self.job.state is not JobState.QUEUED or self.job.report.is_ids:
            return False
        if self.job.order.is_of_marked_ids:
            return True
        try:
            blocks = text_blocks(plain_blocks(self.blobs.get(self.job.blob)))
            return columns_of(next(blocks, b"")) is not None
        except (Stopped, FileNotFoundError):
            return False  # the scrub will meet the same error

    def is_to_change(self, erased: ErasedIds) -> bool:
        """
        Tell whether anything is to be removed; a file that can't be read yet is.

        Raises:
            Stopped: The file can't be read, although its job could read it.
            FileNotFoundError: The file is gone.
        """
        if not self._is_of_ids and is_zip(self.blobs.get(self.job.blob)):
            return True
        sieve = self._sieve(erased)
        try:
            return any(sieve.dropped for _ in self._kept(sieve))
        except Stopped:
            if self._is_judged:
                raise
            return True

    def judged(self, spool_dir: Path, reserve_bytes: int | None) -> Scrubbed:
        """
        Check the file against its description, if the job has not done so.

        Returns:
            The hash type of its lines, or the reason why the job will end.

        Raises:
            FileNotFoundError: The file is gone.
        """
        order = order_as_kept(self.job)
        if self._is_judged:
            return Scrubbed(hash_type=self.job.report.hash_type or order.hash_type)
        with Spool(spool_dir, reserve_bytes=reserve_bytes) as spool:
            reading = Reading(
                self.blobs, self.job.blob, order, spool, lambda _: parser_of_kept(order)
            )
            try:
                reading.run()
            except Stopped as stopped:
                if not (self.job.scrubbed and stopped.reason is StopReason.NO_VALID_RECORD):
                    return Scrubbed(stop=stopped.reason, error=stopped.detail)
            return Scrubbed(hash_type=reading.parser.hash_type)

    def write(self, erased: ErasedIds, file: BufferedRandom) -> Written:
        """
        Write the remaining lines, and rewind `file`.

        Raises:
            Stopped: The kept file can't be read.
            FileNotFoundError: The kept file is gone.
        """
        sieve = self._sieve(erased)
        if not self._is_of_ids and is_archive(self.blobs.get(self.job.blob)):
            packed = cast(
                "IO[bytes]",
                igzip.open(file, "wb", compresslevel=_GZIP_LEVEL),  # type: ignore[no-untyped-call]
            )
            with packed:
                packed.writelines(self._kept(sieve))
        else:
            file.writelines(self._kept(sieve))
        file.seek(0)
        digest = hashlib.file_digest(file, SCRUBBED_DIGEST).hexdigest()
        file.seek(0)
        return Written(digest, sieve.dropped)

    def _kept(self, sieve: LinesThatStay | Rows) -> Iterator[bytes]:
        blob = self.blobs.get(self.job.blob)
        blocks = delivered_blocks(blob) if self._is_of_ids else text_blocks(plain_blocks(blob))
        return kept_blocks(blocks, sieve)

    def _sieve(self, erased: ErasedIds) -> LinesThatStay | Rows:
        if not self._is_of_ids:
            return LinesThatStay(erased)
        return Rows(erased, is_marked=not self.job.report.is_ids)

    @property
    def _is_judged(self) -> bool:
        """The job has compared its file with its description."""
        return bool(self.job.report.segments) or self.job.report.is_ids

    @property
    def _is_of_ids(self) -> bool:
        """The job keeps ids and no text."""
        return self.job.report.is_ids or self.job.order.is_of_marked_ids
