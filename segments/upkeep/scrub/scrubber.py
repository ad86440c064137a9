r"""
Takes the ids of erased persons out of the files that we keep.

    due file  ->  look  ->  write it anew  ->  the job names the new one  ->  delete the old one
                     \ ->  none of them in it

**Whose ids, from which files.** A file holds persons of one account, its owner.
An ERASURE takes its ids out of the files of exactly those owners whose
memberships it deletes (`segments.model.account`): a global one out of all files, an
advertiser's out of its own. What others know of the person was not theirs to
erase. A RESTRICT takes nothing out: what it hides may be shown again some day. Of an
ERASURE that was taken over from a store (`segments.upkeep.reconcile`) only the places of
its ids are known, by which a store tells persons apart; a line goes if its id has one of them.

**When.** The tombstone keeps the person out of every bid and every rebuild from
the first moment; the file follows within `SEGMENTS_SCRUB_WITHIN_H` of the
ERASURE, or of its own arrival if that is later. So a file is looked at when half
of that has passed since it came or was last looked at and there are erasures that
it was not searched for; the other half is for the work. `rtb-segments scrub`
waits for nothing. A file that a loader reads at this moment is left to it, and
seen to when the job ends.

**What it becomes.** `segments.upkeep.scrub.retained_file` says. The new file has a name and a
digest of its own, which stands in the ledger; the partner's digest and count were
compared when the job first read the file, or are compared here, before anything is
changed.

    job                                         its file
    done, or failed with something written      is scrubbed; a rebuild reads it
    failed before it wrote anything             is deleted: nobody will read it again,
                                                and it may be anything
    not begun, and not what was described       is deleted; the job fails, as it would have
    not begun, or held                          is scrubbed; the job reads what is left
    not begun, and to be kept as ids alone      is left to its loader, like one at work

**Why a rebuilt store is the same.** Below an ERASURE that reaches an owner there
is no membership of that owner's audiences: it deleted those that were there, and
refuses those that come after. So a line of an erased id adds nothing to a
replay, removes nothing, and can be missing. Its number is kept in the ledger
for good, and an account that an ERASURE reaches is never again beyond it.
Where a new relation lets more erasures reach an owner, its files are searched for
all of them anew.

**Killed anywhere**, nothing is lost and nothing is half: the new file is written
whole before the job names it, and the old one is noted for deletion in that same
transaction, and deleted by whoever comes next. A new file that no job came to
name is one of the strays, which go every hour: delivered files without a job,
an hour old, and, after two days, what is left of broken uploads and what was put
into the bucket unasked. None of them was ever promised to anybody.

A bucket that keeps versions of what was deleted must be told to drop them.
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
"""Between a file and its job there are seconds."""

ABANDONED_AFTER_S = 2.0 * S_PER_DAY
"""No upload lasts longer than a day."""

_FILES_AT_ONCE = 200


class Scrub(NamedTuple):
    """What a scrub came to."""

    looked_at: int = 0  # files
    rewritten: int = 0
    deleted: int = 0  # files that nobody will read again
    lines: int = 0  # taken out
    at_work: int = 0  # files that a loader reads; to be seen to later
    unreadable: int = 0  # files that are gone or damaged


Show = Callable[[Scrub], None]


@dataclass(frozen=True)
class Scrubber:
    """Scrubs the files of one ledger."""

    ledger: AsyncEngine
    blobs: Blobs
    spool_dir: Path
    now_s: Callable[[], float]

    async def scrub(self, before_s: float, show: Show = lambda _: None) -> Scrub:
        """
        Scrub every file that came, or was last seen to, before a moment.

        Args:
            before_s: The moment; that of now scrubs all.
            show: Called with how far it is; what it raises breaks the scrub off.

        Returns:
            What it came to. A file that can't be read is logged and tried again
            the next time; it keeps no other from being scrubbed.

        Raises:
            segments.ledger.database.engine.LedgerAway: Come again; so for errors of obstore.
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
                    conn, until_seq, before_s, after_job_id=after_job_id, limit=_FILES_AT_ONCE
                )
            for due in page:
                await at_work.see_to(due, tree.forbidding(due.job.owner_id))
                show(at_work.done)
            if not page:
                break
            after_job_id = page[-1].job.id
        return at_work.done

    async def delete_strays(self) -> None:
        """Delete what was never the file of a job: sooner than a sweep does."""
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
    """One scrub in motion: `done` is what it has come to."""

    def __init__(self, scrubber: Scrubber, until_seq: int) -> None:
        self.done = Scrub()
        self._ledger = scrubber.ledger
        self._blobs = scrubber.blobs
        self._spool_dir = scrubber.spool_dir
        self._now_s = scrubber.now_s
        self._delete_retired = scrubber.delete_retired
        self._until_seq = until_seq
        self._last: tuple[tuple[int, frozenset[int]], ErasedIds] | None = None

    async def see_to(self, due: Due, forbidding: frozenset[int]) -> None:
        """Scrub one file, whatever it takes."""
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
                scrubbed = await asyncio.to_thread(file.judged, self._spool_dir)
                if scrubbed.stop is not None:
                    await self._retire(job, scrubbed)
                else:
                    await self._rewrite(file, erased, scrubbed)
            except (Stopped, FileNotFoundError) as error:
                await self._put_off(job, error)

    async def _erased(self, after_seq: int, forbidding: frozenset[int]) -> ErasedIds:
        # Files of one owner mostly come together, and have been seen to together.
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
            return  # another has scrubbed it
        reason = str(error) if isinstance(error, Stopped) else StopReason.FILE_NOT_FOUND
        _log.error("the file of job %d can't be scrubbed: %s", job.id, reason)
        async with self._ledger.begin() as conn:
            await scrubs.put_off(conn, job, self._now_s())
        self._add(unreadable=1)

    def _add(self, **counts: int) -> None:
        self.done = self.done._replace(
            **{name: getattr(self.done, name) + count for name, count in counts.items()}
        )
