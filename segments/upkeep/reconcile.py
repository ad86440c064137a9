"""
A ledger that was restored and the store that went on without it are brought together again.

    the store is closed, for its ledger is behind it
    what the store alone knows        ledger
        opt-outs, by bucket and field     ->  recorded, so that rebuild and scrub heed them
        the highest numbers in use        ->  given to nobody again
        what was deleted, hidden, revoked ->  so again: a catalog of then must not show it
    memberships of audiences that the ledger has not: dropped from the store
    the store is opened

Lost are the audiences, accounts, jobs and the like that only the lost ledger knew; they are
listed, for nothing brings them back but a newer backup or their partners. What their files
have added to audiences that are still there stays in the store, and goes with a rebuild.

An opt-out of an account that is gone is taken over as everybody's: it can't be known
any more whose audiences it reached.

`adopt` is the same for a store of quite another ledger. Numbers mean something else in it,
so nothing of it is kept but the opt-outs, and a rebuild makes all else anew.
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
    """What a reconciliation came to; texts are for people."""

    opt_outs: int = 0  # taken over: ids, each with an account and an action
    gone: tuple[str, ...] = ()  # audiences, accounts, jobs and the like that only the store knows
    again: tuple[str, ...] = ()  # what was deleted, hidden or revoked once more
    unreadable: int = 0  # records of the store that can't be read


async def reconcile(tools: Tools, *, settle_s: float = SETTLE_S) -> Reconciled | None:
    """
    Bring a ledger that is behind its store up to it, and open the store again.

    Killed anywhere, it is done again from the beginning; nothing is done twice.

    Args:
        tools: Ledger, store and time.
        settle_s: How long others may go on by what they have read, where the store was not
            marked yet.

    Returns:
        What there was; `None`: the ledger is not behind its store.

    Raises:
        segments.projection.one_ledger.OtherLedger: The store is another ledger's.
        segments.store.reader.StoreUnusable: It is not laid out, or can't be read.
        redis.exceptions.RedisError: It can't be reached; do it again.
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

    # Before the ledger says that all is well: a number that was given twice, in the moment
    # before that was noticed, must not show the persons that it stood for first.
    writer = Writer(redis, found, is_behind=True)
    await sweep_store(ledger, redis, writer, tools.now_s(), also=both.lost_audiences(found.whose))
    job_ids = await job_marks.known(redis)

    async with ledger.begin() as conn:
        await lock_catalog(conn)
        ours = {number: await jobs.job(conn, number) for number in job_ids}
        lost_jobs = [number for number, job in ours.items() if job is None]
        # Of one that is not done the mark may be a lost one's, whose number it has; without
        # a mark it is carried from its beginning.
        unsure = [n for n, job in ours.items() if job is None or job.state is not JobState.DONE]
        both = await read_beside(conn, catalog)
        lost = await gone(conn, both, lost_jobs)
        again: tuple[str, ...] = ()
        if await is_of_later(conn, catalog, found.whose):
            again = await forbid_again(conn, both, found.whose, now_s=tools.now_s())
        await _lift(conn, found.whose, catalog, job_ids)
        # One that is gone is everybody's.
        account_ids = {number: number for number in both.same_accounts}
        taken = await take_over(conn, theirs, account_ids, found.bucket_bits, tools.now_s())
    await job_marks.drop(redis, unsure)
    await meta.unmark_behind(redis)
    return Reconciled(taken, lost, again, unreadable)


async def adopt(tools: Tools, from_id: str, *, settle_s: float = SETTLE_S) -> Reconciled:
    """
    Make a store of another ledger ours: its opt-outs are taken over, and it stays closed.

    To be followed by a rebuild, which makes it say what our ledger says.

    Args:
        tools: Ledger, store and time.
        from_id: The ledger that it belongs to.
        settle_s: How long others may go on by what they have read.

    Raises:
        Refusal: It belongs to yet another one, or to ours.
        segments.store.reader.StoreUnusable: It can't be read.
        redis.exceptions.RedisError: It can't be reached; do it again.
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
    # Closed as for a rebuild, which is what comes next: its ledger's processes must not go on.
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
        # A sub account's name is one among those of its agency alone.
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
        # What the store was told is ours from here on; a copy of before lacks it.
        await rename(conn, whose.last_revision, whose.last_revision_name)
