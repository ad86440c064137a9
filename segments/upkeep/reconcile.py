"""
Reconciles a restored ledger with a store that went on without it.

    the store is closed, because its ledger is behind it
    only in the store                 ledger
        opt-outs, by bucket and field     ->  recorded, so that rebuild and scrub apply them
        the highest numbers in use        ->  never given again
        deleted, hidden, revoked          ->  so again: the old catalog must not show it
    memberships of audiences that the ledger lacks: dropped from the store
    the store is opened

Audiences, accounts and jobs that only the lost ledger knew are gone, and are listed. Their files'
memberships in surviving audiences stay in the store until a rebuild. An opt-out of a lost account,
of unknown reach, becomes global.

`adopt` keeps only the opt-outs of an unrelated ledger's store, whose numbers mean something else; a
rebuild makes the rest anew.
"""

import asyncio
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.tools import Tools
from segments.ledger import accounts, jobs, ledger_id
from segments.ledger.database.engine import reading
from segments.ledger.ledger_id import Standing
from segments.ledger.revision import lock_catalog, raise_revision, rename
from segments.model.catalog import CatalogSnapshot
from segments.model.job import JobState
from segments.model.refusal import Refusal
from segments.projection.one_ledger import UNNAMED, behind, note_behind
from segments.store import job_marks, keys, meta, rebuild_claim
from segments.store.reader import Whose, read_catalog, read_meta_of_any, read_whose
from segments.store.writer import Writer
from segments.upkeep.later_catalog import forbid_again, gone, is_of_later, read_beside
from segments.upkeep.opt_outs_of_store import Theirs, only_in_store, take_over
from segments.upkeep.rebuild import SETTLE_S
from segments.upkeep.sweep import sweep_store


class Reconciled(NamedTuple):
    """The results of a reconciliation; texts are for people."""

    opt_outs: int = 0  # taken over: ids, each with an account and an action
    gone: tuple[str, ...] = ()  # audiences, accounts, jobs and the like that only the store knows
    again: tuple[str, ...] = ()  # repeated deletions, restrictions and revocations
    unreadable: int = 0  # records of the store that can't be read


async def reconcile(tools: Tools, *, settle_s: float = SETTLE_S) -> Reconciled | None:
    """
    Bring a ledger up to its store, and open the store again; `None`: it was not behind.

    After a kill, run it again; nothing is done twice. `settle_s` is for others' earlier reads.

    Raises:
        segments.projection.one_ledger.OtherLedger: The store belongs to another ledger.
        segments.store.reader.StoreUnusable: The store is not laid out, or can't be read.
        redis.exceptions.RedisError: The store can't be reached; start again.
    """
    ledger, redis = tools.ledger, tools.redis
    found = await read_meta_of_any(redis)
    catalog = await read_catalog(redis)
    async with reading(ledger) as conn:
        by_so_much = await behind(conn, found.whose, catalog.version)
    if not by_so_much:
        await note_behind(redis, "", found.whose)
        return None
    if not found.whose.behind:
        await meta.mark_behind(redis, by_so_much)
        await asyncio.sleep(settle_s)

    theirs, unreadable = await only_in_store(ledger, redis, found.bucket_bits)
    async with reading(ledger) as conn:
        both = await read_beside(conn, catalog)

    # First: a number given twice must not show the persons of its first audience.
    writer = Writer(redis, found, is_behind=True)
    await sweep_store(ledger, redis, writer, tools.now_s(), also=both.lost_audiences(found.whose))
    job_ids = await job_marks.known(redis)

    async with ledger.begin() as conn:
        await lock_catalog(conn)
        ours = {number: await jobs.job(conn, number) for number in job_ids}
        lost_jobs = [number for number, job in ours.items() if job is None]
        # An unfinished job's mark may be a lost job's of that number; without a mark the job starts
        # afresh.
        unsure = [n for n, job in ours.items() if job is None or job.state is not JobState.DONE]
        both = await read_beside(conn, catalog)
        lost = await gone(conn, both, lost_jobs)
        again: tuple[str, ...] = ()
        if await is_of_later(conn, catalog, found.whose):
            again = await forbid_again(conn, both, found.whose, now_s=tools.now_s())
        await _lift(conn, found.whose, catalog, job_ids)
        # Opt-outs of lost accounts become global.
        account_ids = {number: number for number in both.same_accounts}
        taken = await take_over(conn, theirs, account_ids, found.bucket_bits, tools.now_s())
    await job_marks.drop(redis, unsure)
    await meta.unmark_behind(redis)
    return Reconciled(taken, lost, again, unreadable)


async def adopt(tools: Tools, from_id: str, *, settle_s: float = SETTLE_S) -> Reconciled:
    """
    Take over the opt-outs of another ledger's store, and leave the store closed for a rebuild.

    Raises:
        Refusal: The store belongs to a third ledger, or to ours.
        segments.store.reader.StoreUnusable: The store can't be read.
        redis.exceptions.RedisError: The store can't be reached; start again.
    """
    ledger, redis = tools.ledger, tools.redis
    whose = await read_whose(redis)
    async with reading(ledger) as conn:
        ours = await ledger_id.standing(conn)
        our_accounts = await accounts.accounts(conn)
    if whose.ledger_id == ours.ledger_id:
        raise Refusal("the store belongs to this ledger already")
    if whose.ledger_id != ("" if from_id == UNNAMED else from_id):
        raise Refusal(f"the store belongs to ledger {whose.ledger_id or UNNAMED}, not {from_id}")
    catalog = await read_catalog(redis)
    bucket_bits = int(await redis.hget(keys.META.decode(), "bucket_bits") or 0)
    # Closed as for the rebuild: the old ledger's processes must stop.
    await rebuild_claim.take(redis)
    await asyncio.sleep(settle_s)
    theirs: Theirs = {}
    unreadable = 0
    if bucket_bits:
        theirs, unreadable = await only_in_store(ledger, redis, bucket_bits)
    named = {(account.kind.value, account.public_id): account for account in our_accounts}
    account_ids = {
        entry.id: named[entry.kind, entry.public_id].id
        for entry in catalog.accounts
        # Sub accounts' names are unique only within an agency.
        if entry.parent_id is None and (entry.kind, entry.public_id) in named
    }
    async with ledger.begin() as conn:
        await lock_catalog(conn)
        taken = await take_over(conn, theirs, account_ids, bucket_bits, tools.now_s())
    if not await meta.give(redis, ours.ledger_id, taken_from=whose.ledger_id):
        raise Refusal("the store became another ledger's meanwhile: look again")
    return Reconciled(taken, unreadable=unreadable)


async def _lift(
    conn: AsyncConnection, whose: Whose, catalog: CatalogSnapshot, job_ids: Collection[int]
) -> None:
    ours = await ledger_id.standing(conn)
    until = Standing(
        ours.ledger_id,
        max(ours.last_audience, whose.last_audience),
        max(ours.last_opt_out, whose.last_opt_out),
    )
    in_use = {
        "accounts": max((entry.id for entry in catalog.accounts), default=0),
        "recipients": max((entry.id for entry in catalog.recipients), default=0),
        "jobs": max(job_ids, default=0),
    }
    await ledger_id.lift(conn, until, in_use)
    await raise_revision(conn, above=max(catalog.version, whose.last_revision))
    if whose.last_revision_name:
        # From here on the store's revision is ours; an earlier copy lacks its name.
        await rename(conn, whose.last_revision, whose.last_revision_name)
