"""
Makes the store anew from the ledger and the blobs: every record, byte for byte.

    take the store  ->  jobs, in their order  ->  sweep  ->  opt-outs  ->  meta  ->  catalog

The meta, which is what makes a store readable, comes last: until then no bid is
answered from it, and the first one that is finds every opt-out in its place.
Killed, it is begun anew; nothing of half a rebuild is ever shown.

**What makes the bytes the same.** A record is a set of opt-outs, which only
grows and knows no order, and memberships. Those of one audience are changed by
the jobs of one partner alone, and these ran one after another, by number. So
jobs are replayed by number, each by the plan that was kept with it (audience
ids, expiry days), and the only question is whether an opt-out was there before
a job came to a person. The ledger answers it, for each job and each id:

    opt-out's number is ...                          it was
    up to the job's `opt_outs_before`                before: the store had it at the start
    behind the job's `opt_outs_until`                after: recorded when all was written
    between, and the id is noted for both            after: see segments.ingest.late_opt_outs
    between, and not noted                           before

Ids that were opted out before a job are kept from its additions here; opt-outs
themselves are written when all jobs are. It comes to the same as writing them
in between: a RESTRICT deletes nothing, and an ERASURE deletes what no job had
before it, for it refuses what it would have deleted.

**Where a rebuilt store holds less** than the lost one, never more, and shows the
same in every bid:

- Memberships that are over, and of deleted audiences, are swept right away.
- How far an account's opt-outs reach is asked of the accounts as they are now.
  One that was related to a publisher later loses what is hidden anyway.
- Of a failed or unfinished job there is what its checkpoint says; the batch
  that it was in comes with the job itself, or not at all. Against it, every
  opt-out recorded while it ran counts as before.

What was announced of a file (digest, number of records) is not compared again.
Ids that were scrubbed from it are missed by nobody: `segments.upkeep.scrub.scrubber` says why. A
file that is scrubbed while we read it has another name then, and is read again.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.tools import Tools
from segments.ledger import accounts, job_leases, jobs
from segments.ledger.database.engine import reading
from segments.ledger.privacy import late_opt_outs, opt_outs
from segments.ledger.revision import lock_catalog
from segments.model.identity import Id
from segments.model.job import Job
from segments.model.stop_reason import Stopped, StopReason
from segments.projection.applied_opt_outs import apply_opt_outs
from segments.projection.catalog import publish_catalog
from segments.projection.one_ledger import take_for_rebuild
from segments.store import job_marks, keys, rebuild_claim
from segments.store.meta import check_server
from segments.store.reader import Meta, StoreUnusable
from segments.store.servers.masters import is_cluster
from segments.store.writer import Writer
from segments.upkeep.replay import OptedOut, Replay
from segments.upkeep.sweep import sweep_store

if TYPE_CHECKING:
    from segments.ledger.privacy.late_opt_outs import Said

SETTLE_S = 5.0
"""How long others may go on by a meta that they have read: a batch of merges, a probe of bids."""

SETTLE_CLUSTER_S = 60.0
"""
The same where the meta may lie on a node that bids can't ask: see
`rtb.lookup.cluster.lookup.META_KEPT_S`.
"""

_LOOK_EVERY_S = 0.2
_JOBS_AT_ONCE = 1000
_IDS_AT_ONCE = 50_000


class CannotRebuild(Exception):
    """The ledger names a file that can't be read; the message says which job's."""


class Progress(NamedTuple):
    """How far a rebuild is."""

    doing: str
    jobs: int = 0  # looked at
    rows: int = 0  # written
    skipped: tuple[int, ...] = ()  # jobs whose file can't be read


Show = Callable[[Progress], None]


async def rebuild(
    tools: Tools,
    expected_ids: int,
    *,
    show: Show = lambda _: None,
    skip_missing: bool = False,
    settle_s: float | None = None,
) -> Progress:
    """
    Make the store anew; what it holds for us is deleted first.

    Args:
        tools: What jobs work with.
        expected_ids: Lays the store out, as a new one.
        show: Called with how far it is.
        skip_missing: Go on without jobs whose file can't be read.
        settle_s: How long to wait after the store was closed to others; `None`: for as long
            as they may go on.

    Returns:
        What it came to.

    Raises:
        CannotRebuild: A job's file can't be read. The store stays closed.
        segments.store.reader.StoreUnusable: The store can't be written as it
            is, or another rebuild has taken it.
        redis.exceptions.RedisError: It can't be reached; begin again.
    """
    await check_server(tools.redis)
    await take_for_rebuild(tools.ledger, tools.redis)
    name = await rebuild_claim.take(tools.redis)
    at_work = _Rebuild(tools, expected_ids, name, show)

    if settle_s is None:
        settle_s = SETTLE_CLUSTER_S if is_cluster(tools.redis) else SETTLE_S
    await at_work.until_quiet(settle_s)
    await at_work.wipe()
    await at_work.replay(skip_missing)
    await at_work.sweep()
    await at_work.opt_out_and_open()
    try:
        await publish_catalog(tools.ledger, tools.redis)
    except StoreUnusable:
        await rebuild_claim.check_open(tools.redis)
        raise

    return at_work.progress


class _Rebuild:
    """A rebuild in motion."""

    def __init__(self, tools: Tools, expected_ids: int, name: str, show: Show) -> None:
        self.progress = Progress("waiting for others to let go of the store")
        self._tools = tools
        self._meta = Meta(keys.bucket_bits_for(expected_ids), opt_outs=0)
        self._name = name
        self._writer = Writer(tools.redis, self._meta, name)
        self._show = show

    async def until_quiet(self, settle_s: float) -> None:
        """Wait until whoever still writes to the store has found it closed."""
        self._say(self.progress.doing)
        await asyncio.sleep(settle_s)
        while True:
            async with reading(self._tools.ledger) as conn:
                if not await job_leases.running(conn, self._tools.now_s()):
                    return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def wipe(self) -> None:
        """Delete what the store holds."""
        self._say("deleting what is there")
        await rebuild_claim.wipe(self._tools.redis)

    async def replay(self, skip_missing: bool) -> None:
        """Do again what the jobs have done, in their order."""
        async with reading(self._tools.ledger) as conn:
            tree = await accounts.tree(conn)
            opted_out = await _opted_out(conn, self._meta.bucket_bits)
        again = Replay(self._tools, self._meta, self._writer, tree, opted_out)
        last_id = 0
        while True:
            async with reading(self._tools.ledger) as conn:
                page = await jobs.jobs_after(conn, last_id, _JOBS_AT_ONCE)
                noted = {job.id: await late_opt_outs.noted(conn, job.id) for job in page}
            for job in page:
                self._say(f"job {job.id}")
                try:
                    rows = await self._replay_one(again, job, noted[job.id])
                except Stopped as stopped:
                    if not skip_missing:
                        raise CannotRebuild(
                            f"the file of job {job.id} can't be read: {stopped}"
                        ) from None
                    self._add(skipped=(*self.progress.skipped, job.id))
                else:
                    self._add(jobs=self.progress.jobs + 1, rows=self.progress.rows + rows)
            if not page:
                return
            last_id = page[-1].id

    async def _replay_one(self, again: Replay, job: Job, noted: Collection[tuple[int, Id]]) -> int:
        while True:
            try:
                return await again.run(job, noted)
            except (Stopped, FileNotFoundError) as error:
                async with reading(self._tools.ledger) as conn:
                    now = await jobs.job(conn, job.id)
                if now is None or now.blob == job.blob:
                    if isinstance(error, Stopped):
                        raise
                    raise Stopped(StopReason.FILE_NOT_FOUND) from None
                job = now

    async def sweep(self) -> None:
        """Drop what nobody will be shown again."""
        self._say("sweeping")
        await sweep_store(self._tools.ledger, self._tools.redis, self._writer, self._tools.now_s())

    async def opt_out_and_open(self) -> None:
        """Write all opt-outs, and when there are no others the meta."""
        self._say("opt-outs")
        while True:
            async with reading(self._tools.ledger) as conn:
                last_seq = await opt_outs.last_seq(conn)
            await apply_opt_outs(self._tools.ledger, self._tools.redis, self._meta, self._writer)
            self._meta = self._meta._replace(opt_outs=last_seq)
            async with self._tools.ledger.begin() as conn:
                # Nobody records an opt-out meanwhile: it would have found the store
                # closed, and the next bid would find it open and without it.
                await lock_catalog(conn)
                if await opt_outs.last_seq(conn) == last_seq:
                    await job_marks.begin(self._tools.redis, self._tools.now_s())
                    await rebuild_claim.hand_over(self._tools.redis, self._name, self._meta)
                    return

    def _say(self, doing: str) -> None:
        self._add(doing=doing)

    def _add(self, **fields: Any) -> None:
        self.progress = self.progress._replace(**fields)
        self._show(self.progress)


async def _opted_out(conn: AsyncConnection, bucket_bits: int) -> OptedOut:
    opted_out = OptedOut(bucket_bits)
    behind: Said | None = None
    while page := await late_opt_outs.all_said(conn, behind=behind, limit=_IDS_AT_ONCE):
        opted_out.add(page)
        behind = page[-1]
    return opted_out
