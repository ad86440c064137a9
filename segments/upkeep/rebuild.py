"""
Makes the store anew from ledger and blobs: every record, byte for byte.

    take the store  ->  jobs, in their order  ->  sweep  ->  opt-outs  ->  meta  ->  catalog

The meta, which makes a store readable, is written after all opt-outs. A killed rebuild begins anew,
unseen.

**Why the bytes are the same.** A record holds opt-outs, a growing set without order, and
memberships. An audience's memberships are changed only by a single partner's jobs, which ran by
number. So jobs are replayed by number, each by its kept plan (audience ids, expiry days). Whether
an opt-out preceded a job's change of a person, the ledger knows for each job and id:

    number of the opt-out                            it came
    up to the job's `opt_outs_before`                before: the store had it at the start
    above the job's `opt_outs_until`                 after: recorded when all was written
    between, and the id is noted for both            after: see segments.ingest.late_opt_outs
    between, and not noted                           before

A replayed job adds no ids opted out before it; opt-outs are written after all jobs. The result is
the same: a RESTRICT deletes nothing, and an ERASURE deletes only earlier jobs' memberships, since
it refuses later ones.

**A rebuilt store can hold less** than the lost one, never more, and shows the same in every bid:

- Expired memberships and those of deleted audiences are swept at once.
- Opt-outs reach as far as present accounts say; an account related to a publisher since loses only
  hidden memberships.
- A failed or unfinished job is replayed to its checkpoint, and every opt-out recorded while it ran
  counts as before.

Scrubbed ids make no difference: see `segments.upkeep.scrub.scrubber`. A file scrubbed during the
rebuild is read again.
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
from segments.store.servers.masters import is_cluster, runs
from segments.store.writer import Writer
from segments.upkeep.kept_files import jobs_with_files, named, without_file
from segments.upkeep.replay import OptedOut, Replay
from segments.upkeep.sweep import sweep_store

if TYPE_CHECKING:
    from segments.ledger.privacy.late_opt_outs import Said

SETTLE_S = 5.0
"""For others' use of a meta that they have read: a batch of merges, a probe of bids."""

SETTLE_CLUSTER_S = 60.0
"""The same without the meta's node: see `rtb.lookup.cluster.lookup.META_KEPT_S`."""

_LOOK_EVERY_S = 0.2
_JOBS_AT_ONCE = 1000
_IDS_AT_ONCE = 50_000


class CannotRebuild(Exception):
    """
    A file is gone or can't be read; the message names the job.

    Attributes:
        is_closed: Whether the store is closed now; otherwise it is as it was.
    """

    def __init__(self, message: str, *, is_closed: bool) -> None:
        super().__init__(message)
        self.is_closed = is_closed


class Progress(NamedTuple):
    """The progress of a rebuild."""

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
    is_automatic: bool = False,
) -> Progress:
    """
    Make the store anew; its present contents are deleted first.

    Args:
        tools: The tools of jobs.
        expected_ids: Lays the store out, as for a new one.
        show: Called with the progress.
        skip_missing: Continue without jobs whose file can't be read.
        settle_s: The pause after closing the store; `None`: for others' use of its meta.
        is_automatic: Not started by an operator.

    Raises:
        CannotRebuild: A job's file is gone, and the store is as it was; or it can't be read, and
            the store stays closed.
        segments.store.reader.StoreUnusable: The store can't be written in its present state, or
            another rebuild has taken it.
        redis.exceptions.RedisError: The store can't be reached; begin again.
        obstore.exceptions.BaseError: The files can't be reached: at the start, and the store is as
            it was; or later, and it stays closed.
    """
    await check_server(tools.redis)
    # First: without files the store would stay closed.
    await tools.blobs.check_answers()
    if not skip_missing:
        wanted = await jobs_with_files(tools.ledger)
        if gone := await without_file(tools.ledger, tools.blobs, wanted):
            raise CannotRebuild(f"files are gone: {named(gone)}", is_closed=False)
    await take_for_rebuild(tools.ledger, tools.redis)
    name = await rebuild_claim.take(tools.redis, is_automatic=is_automatic)
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
    def __init__(self, tools: Tools, expected_ids: int, name: str, show: Show) -> None:
        self.progress = Progress("waiting for others to let go of the store")
        self._tools = tools
        self._meta = Meta(keys.bucket_bits_for(expected_ids), opt_outs=0)
        self._name = name
        self._writer = Writer(tools.redis, self._meta, name)
        self._show = show

    async def until_quiet(self, settle_s: float) -> None:
        """Wait until all other writers have found the store closed."""
        self._say(self.progress.doing)
        await asyncio.sleep(settle_s)
        while True:
            async with reading(self._tools.ledger) as conn:
                if not await job_leases.running(conn, self._tools.now_s()):
                    return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def wipe(self) -> None:
        self._say("deleting what is there")
        await rebuild_claim.wipe(self._tools.redis)

    async def replay(self, skip_missing: bool) -> None:
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
                            f"the file of job {job.id} can't be read: {stopped}", is_closed=True
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
        self._say("sweeping")
        await sweep_store(self._tools.ledger, self._tools.redis, self._writer, self._tools.now_s())

    async def opt_out_and_open(self) -> None:
        """Write all opt-outs; once no new ones have arrived, write the meta."""
        self._say("opt-outs")
        while True:
            async with reading(self._tools.ledger) as conn:
                last_seq = await opt_outs.last_seq(conn)
            await apply_opt_outs(self._tools.ledger, self._tools.redis, self._meta, self._writer)
            self._meta = self._meta._replace(opt_outs=last_seq)
            async with self._tools.ledger.begin() as conn:
                # The lock blocks new opt-outs, whose writer would find the store closed, and the
                # next bid open without them.
                await lock_catalog(conn)
                if await opt_outs.last_seq(conn) == last_seq:
                    await self._keep_marks()
                    await rebuild_claim.hand_over(self._tools.redis, self._name, self._meta)
                    return

    async def _keep_marks(self) -> None:
        redis, now_s = self._tools.redis, self._tools.now_s()
        await job_marks.begin(redis, now_s)
        if is_cluster(redis):
            # Loaders check marks only of new runs.
            await job_marks.meet(redis, await runs(redis), now_s)

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
