r"""
Removes the ids of erased persons from the files that we keep.

    due file  ->  look  ->  write it anew  ->  the job names the new one  ->  delete the old one
                     \ ->  none of them in it

**The ids, and the files.** A file holds persons of one account, its owner. An ERASURE removes its
ids from the files of exactly those owners whose memberships it deletes (`segments.model.account`):
a global one from all files, an advertiser's from its own. A RESTRICT removes nothing: hidden
memberships may be shown again. Of an ERASURE taken over from a store (`segments.upkeep.reconcile`)
only ids' places are known; a line is removed if its id has such a place.

**When.** The tombstone keeps the person out of every bid and rebuild from the first moment; the
file follows within `SEGMENTS_SCRUB_WITHIN_H` of the ERASURE, or of its arrival if later. A file
with new erasures is due when half of that time has passed since it arrived or was last searched;
the other half is for the work. `rtb-segments scrub` does not wait. A file that a loader is reading
waits for its job's end.

**The new file** (`segments.upkeep.scrub.retained_file`) has its own name and digest in the ledger.
The partner's digest and count were compared when the job first read the file, or are compared here
first.

    job                                         its file
    done, or failed with something written      is scrubbed; a rebuild reads it
    failed before it wrote anything             is deleted: it will not be read again,
                                                and its contents are unknown
    not begun, and not as described             is deleted; the job fails, as it would have
    not begun, or held                          is scrubbed; the job reads the rest
    not begun, and to be kept as ids alone      is left to its loader, as if running

**Why a rebuilt store is the same.** An ERASURE deletes earlier memberships in the audiences of the
owners within its reach, and refuses later ones. So a line of an erased id does nothing in a replay.
The ERASURE stays in the ledger for good, and accounts never leave its reach. When a new relation
lets more erasures reach an owner, its files are searched anew for all of them.

**Killed anywhere**, a scrub leaves nothing half done: the new file is complete before the job names
it, in the transaction that notes the old one for deletion. Strays go every hour: files that no job
names after an hour and, after two days, remains of broken uploads and unrequested files in the
bucket.

A bucket that keeps versions of deleted files must be told to drop them.
"""

import asyncio
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs, delivery_name
from segments.files.chunks import chunks_of, in_thread
from segments.files.disk import Disk
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import reading
from segments.ledger.privacy import scrubs
from segments.ledger.privacy.scrubs import Due
from segments.model.day import S_PER_DAY
from segments.model.job import Job, JobState, Scrubbed
from segments.model.stop_reason import Stopped, StopReason
from segments.upkeep.scrub.erased_lines import ErasedIds
from segments.upkeep.scrub.retained_file import RetainedFile
from segments.upkeep.sweep import sweep_blobs

_log = logging.getLogger(__name__)

STRAY_AFTER_S = 3600.0
"""A job follows its file within seconds."""

ABANDONED_AFTER_S = 2.0 * S_PER_DAY
"""No upload lasts longer than a day."""

_FILES_AT_ONCE = 200


class Scrub(NamedTuple):
    """The results of a scrub."""

    looked_at: int = 0  # files
    rewritten: int = 0
    deleted: int = 0  # files that will not be read again
    lines: int = 0  # removed
    at_work: int = 0  # files that a loader is reading
    unreadable: int = 0  # files that are gone or damaged


Show = Callable[[Scrub], None]


@dataclass(frozen=True)
class Scrubber:
    """Scrubs a ledger's files."""

    ledger: AsyncEngine
    blobs: Blobs
    spool_dir: Path
    now_s: Callable[[], float]
    reserve_bytes: int | None = None  # of the disk of `spool_dir`: see `segments.files.disk`

    async def scrub(self, before_s: float, show: Show = lambda _: None) -> Scrub:
        """
        Scrub every file that arrived, or was last scrubbed, before a moment.

        `show` is called with the progress, and may end the scrub by an exception. An unreadable
        file is logged, and tried again the next time.

        Raises:
            segments.ledger.database.errors.LedgerAway: Try again; likewise after errors of obstore.
        """
        await self._delete_retired()
        async with reading(self.ledger) as conn:
            until_seq = await scrubs.last_erasure(conn)
            tree = await accounts.tree(conn)
        at_work = _Pass(self, until_seq)
        after_job_id = 0
        while until_seq:
            async with reading(self.ledger) as conn:
                page = await scrubs.due(
                    conn,
                    until_seq,
                    before_s,
                    after_job_id=after_job_id,
                    limit=_FILES_AT_ONCE,
                    now_s=self.now_s(),
                )
            for due in page:
                await at_work.see_to(due, tree.forbidding(due.job.owner_id))
                show(at_work.done)
            if not page:
                break
            after_job_id = page[-1].job.id
        return at_work.done

    async def delete_strays(self) -> None:
        """Delete files that never had a job, sooner than a sweep."""
        await sweep_blobs(
            self.ledger,
            self.blobs,
            self.now_s(),
            orphaned_after_s=STRAY_AFTER_S,
            abandoned_after_s=ABANDONED_AFTER_S,
        )

    async def _delete_retired(self) -> None:
        async with reading(self.ledger) as conn:
            names = await scrubs.retired(conn)
        for name in names:
            await self.delete_retired(name)

    async def delete_retired(self, name: str) -> None:
        """Delete a file that no job names any more."""
        await self.blobs.delete(name)
        async with self.ledger.begin() as conn:
            await scrubs.deleted(conn, name)


class _Pass:
    """A scrub under way; `done`: its results so far."""

    def __init__(self, scrubber: Scrubber, until_seq: int) -> None:
        self.done = Scrub()
        self._ledger = scrubber.ledger
        self._blobs = scrubber.blobs
        self._spool_dir = scrubber.spool_dir
        self._reserve_bytes = scrubber.reserve_bytes
        self._now_s = scrubber.now_s
        self._delete_retired = scrubber.delete_retired
        self._until_seq = until_seq
        self._last: tuple[tuple[int, frozenset[int]], ErasedIds] | None = None

    async def see_to(self, due: Due, forbidding: frozenset[int]) -> None:
        job = due.job
        file = RetainedFile(job, self._blobs)
        if job.state is JobState.RUNNING or await asyncio.to_thread(file.is_to_become_ids):
            self._add(at_work=1)
            return
        self._add(looked_at=1)
        erased = await self._erased(due.scrubbed_seq, forbidding)
        is_deleted = job.scrubbed is not None and job.scrubbed.stop is not None
        if not len(erased) or is_deleted:
            await self._seen_to(job)
        elif job.has_written_nothing:
            await self._retire(job, Scrubbed(stop=job.stop or StopReason.INTERNAL))
        else:
            try:
                is_to_change = await asyncio.to_thread(file.is_to_change, erased)
                if not is_to_change:
                    await self._seen_to(job)
                    return
                scrubbed = await asyncio.to_thread(
                    file.judged, self._spool_dir, self._reserve_bytes
                )
                if scrubbed.stop is not None:
                    await self._retire(job, scrubbed)
                else:
                    await self._rewrite(file, erased, scrubbed)
            except (Stopped, FileNotFoundError) as error:
                await self._put_off(job, error)

    async def _erased(self, after_seq: int, forbidding: frozenset[int]) -> ErasedIds:
        # An owner's files mostly arrived, and were scrubbed, together.
        asked = (after_seq, forbidding)
        if self._last is None or self._last[0] != asked:
            async with reading(self._ledger) as conn:
                bits_to_ids = await scrubs.erased_ids(
                    conn, after_seq, self._until_seq, sorted(forbidding)
                )
            whole = bits_to_ids.pop(None, [])
            placed = {bits: ids for bits, ids in bits_to_ids.items() if bits is not None}
            self._last = asked, ErasedIds(whole, placed)
        return self._last[1]

    async def _rewrite(self, file: RetainedFile, erased: ErasedIds, scrubbed: Scrubbed) -> None:
        job = file.job
        self._spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The new file is no larger than the old.
        size_bytes = (await asyncio.to_thread(self._blobs.get, job.blob)).size_bytes
        Disk(self._spool_dir, self._reserve_bytes).check_room(size_bytes)
        with tempfile.TemporaryFile(dir=self._spool_dir) as rest:
            written = await asyncio.to_thread(file.write, erased, rest)
            blob = delivery_name(job.partner_id)
            await self._blobs.put(blob, in_thread(chunks_of(rest)))
        if await self._replaced(job, blob, Scrubbed(written.digest, scrubbed.hash_type)):
            self._add(rewritten=1, lines=written.dropped)
        else:
            await self._blobs.delete(blob)
            self._add(at_work=1)

    async def _retire(self, job: Job, scrubbed: Scrubbed) -> None:
        if await self._replaced(job, job.blob, scrubbed):
            self._add(deleted=1)
        else:
            self._add(at_work=1)

    async def _replaced(self, job: Job, blob: str, scrubbed: Scrubbed) -> bool:
        async with self._ledger.begin() as conn:
            is_done = await scrubs.replace_file(
                conn, job, self._until_seq, blob=blob, scrubbed=scrubbed, now_s=self._now_s()
            )
        if is_done:
            await self._delete_retired(job.blob)
        return is_done

    async def _seen_to(self, job: Job) -> None:
        async with self._ledger.begin() as conn:
            await scrubs.seen_to(conn, job, self._until_seq, self._now_s())

    async def _put_off(self, job: Job, error: Exception) -> None:
        async with reading(self._ledger) as conn:
            now = await jobs.job(conn, job.id)
        if now is not None and now.blob != job.blob:
            return  # another process has scrubbed it
        reason = str(error) if isinstance(error, Stopped) else StopReason.FILE_NOT_FOUND
        _log.error("the file of job %d can't be scrubbed: %s", job.id, reason)
        async with self._ledger.begin() as conn:
            await scrubs.put_off(conn, job, self._now_s())
        self._add(unreadable=1)

    def _add(self, **counts: int) -> None:
        self.done = self.done._replace(
            **{name: getattr(self.done, name) + count for name, count in counts.items()}
        )
