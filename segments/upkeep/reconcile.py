"""
A ledger that was restored and the store that went on without it are brought together again.

    the store is closed, for its ledger is behind it
    what the store alone knows        ledger
        opt-outs, by bucket and field     ->  recorded, so that a rebuild keeps them
        the highest numbers in use        ->  given to nobody again
        what was deleted, hidden, revoked ->  so again: a catalog of then must not show it
    memberships of audiences that the ledger has not: dropped from the store
    the store is opened

Lost are the audiences, accounts and jobs that only the lost ledger knew; they are listed,
for nothing brings them back but a newer backup or their partners. What their files have
added to audiences that are still there stays in the store, and goes with a rebuild.

An opt-out of an account that is gone is taken over as everybody's: it can't be known
any more whose audiences it reached.

`adopt` is the same for a store of quite another ledger. Numbers mean something else in it,
so nothing of it is kept but the opt-outs, and a rebuild makes all else anew.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, cast

import numpy as np
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ingest.store_names import name_set
from segments.ingest.tools import Tools
from segments.ledger import accounts, audiences, jobs, ledger_id, recipients
from segments.ledger.database.engine import reading
from segments.ledger.ledger_id import Standing
from segments.ledger.privacy import audit, opt_outs
from segments.ledger.privacy.audit import COMMAND_LINE, Entry
from segments.ledger.privacy.opt_outs import Taken
from segments.ledger.revision import lock_catalog, raise_revision, revision
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState
from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot
from segments.model.identity import ID_BYTES, Id
from segments.model.record import (
    EVERYONE,
    CorruptRecord,
    OptOutAction,
    has_no_opt_out,
    unpack,
)
from segments.model.refusal import Refusal
from segments.projection.one_ledger import UNNAMED, behind, note_behind
from segments.store import job_marks, keys, meta, rebuild_claim
from segments.store.reader import Whose, read_catalog, read_meta_of_any, read_whose
from segments.store.writer import Writer
from segments.upkeep.rebuild import SETTLE_S
from segments.upkeep.sweep import buckets_of, sweep_store

_IDS_AT_ONCE = 50_000

_Key = tuple[int, OptOutAction]
"""Whose opt-out, and what it asks for."""


class Reconciled(NamedTuple):
    """What a reconciliation came to; texts are for people."""

    opt_outs: int = 0  # taken over: ids, each with an account and an action
    gone: tuple[str, ...] = ()  # audiences, accounts and jobs that only the store knows of
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

    known = await _said(ledger, found.bucket_bits)
    theirs, unreadable = await _only_in_store(redis, found.bucket_bits, known)
    async with reading(ledger) as conn:
        ours = {account.id: account for account in await accounts.accounts(conn)}
        lost_audiences = await _lost_audiences(conn, catalog, found.whose)
    gone_accounts = {
        entry.id for entry in catalog.accounts if not _is_same(entry, ours.get(entry.id))
    }
    account_ids = {number: number for number in ours if number not in gone_accounts}

    # Before the ledger says that all is well: a number that was given twice, in the moment
    # before that was noticed, must not show the persons that it stood for first.
    writer = Writer(redis, found, is_behind=True)
    await sweep_store(ledger, redis, writer, tools.now_s(), also=lost_audiences)
    job_ids = await job_marks.known(redis)

    async with ledger.begin() as conn:
        await lock_catalog(conn)
        lost_jobs = [number for number in job_ids if await jobs.job(conn, number) is None]
        gone = await _gone(conn, catalog, gone_accounts, lost_jobs)
        again = await _forbid_again(conn, catalog, now_s=tools.now_s())
        await _lift(conn, found.whose, catalog, job_ids)
        taken = await _take_over(conn, theirs, account_ids, found.bucket_bits, tools.now_s())
    await job_marks.drop(redis, lost_jobs)
    await meta.unmark_behind(redis)
    return Reconciled(taken, gone, again, unreadable)


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
    theirs: dict[_Key, set[Id]] = {}
    unreadable = 0
    if bucket_bits:
        known = await _said(ledger, bucket_bits)
        theirs, unreadable = await _only_in_store(redis, bucket_bits, known)
    named = {(account.kind.value, account.public_id): account for account in our_accounts}
    account_ids = {
        entry.id: named[entry.kind, entry.public_id].id
        for entry in catalog.accounts
        # A sub account's name is one among those of its agency alone.
        if entry.parent_id is None and (entry.kind, entry.public_id) in named
    }
    async with ledger.begin() as conn:
        await lock_catalog(conn)
        taken = await _take_over(conn, theirs, account_ids, bucket_bits, tools.now_s())
    if not await meta.give(redis, ours.ledger_id, taken_from=whose.ledger_id):
        raise Refusal("the store became another ledger's meanwhile: look again")
    return Reconciled(taken, unreadable=unreadable)


async def _said(ledger: AsyncEngine, bucket_bits: int) -> Mapping[_Key, set[bytes]]:
    """Return the names of all ids that the ledger knows an opt-out of."""
    said: dict[_Key, set[bytes]] = {}
    last: tuple[int, Id] | None = None
    while True:
        async with reading(ledger) as conn:
            page = await opt_outs.said_ids(conn, behind=last, limit=_IDS_AT_ONCE)
        if not page:
            return said
        for seq, account_id, action, known_bits, id_ in page:
            key = EVERYONE if account_id is None else account_id, action
            ids = (
                [id_]
                if known_bits is None
                else keys.ids_in_finer_buckets(id_, known_bits, bucket_bits)
            )
            said.setdefault(key, set()).update(_names(ids, bucket_bits))
            last = seq, id_


def _names(ids: Collection[bytes], bucket_bits: int) -> set[bytes]:
    matrix = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)
    return name_set(matrix, bucket_bits)


async def _only_in_store(
    redis: Redis, bucket_bits: int, known: Mapping[_Key, set[bytes]]
) -> tuple[dict[_Key, set[Id]], int]:
    """Return the ids of opt-outs that the ledger does not know, and of how many records nothing."""
    found: dict[_Key, set[Id]] = {}
    unreadable = 0
    async for numbers in buckets_of(redis):
        async with redis.pipeline(transaction=False) as pipeline:
            for number in numbers:
                pipeline.execute_command("HGETALL", keys.bucket_key(number))
            replies = await pipeline.execute()
        for number, reply in zip(numbers, replies, strict=True):
            for field, raw in _records(reply):
                try:
                    said = unpack(raw).opt_outs
                except CorruptRecord:
                    unreadable += 1
                    continue
                name = number.to_bytes(keys.FIELD_START) + field
                for opt_out in said:
                    key = opt_out.account_id, opt_out.action
                    is_known = name in known.get(key, ()) or name in known.get(
                        (EVERYONE, opt_out.action), ()
                    )
                    if not is_known:
                        id_ = Id(keys.id_in_bucket(number, field, bucket_bits))
                        found.setdefault(key, set()).add(id_)
    return found, unreadable


def _records(reply: object) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fields and records of a bucket that tell of an opt-out, or can't be told."""
    # A client of one server makes a dictionary of the reply, a Cluster's does not.
    pairs: Iterable[tuple[bytes, bytes]]
    if isinstance(reply, dict):
        pairs = reply.items()
    else:
        flat = cast("list[bytes]", reply)
        pairs = zip(flat[::2], flat[1::2], strict=True)
    for field, raw in pairs:
        if not has_no_opt_out(raw):
            yield field, raw


async def _lost_audiences(
    conn: AsyncConnection, catalog: CatalogSnapshot, whose: Whose
) -> list[int]:
    """Return the numbers that the store may hold memberships of and that mean nothing to us."""
    ours = {audience.id: audience for audience in await audiences.audiences(conn)}
    theirs = {entry.id: entry for entry in catalog.audiences}
    return [
        number
        for number in range(1, whose.last_audience + 1)
        if number not in ours
        or (number in theirs and not _is_same_audience(theirs[number], ours[number]))
    ]


def _is_same_audience(entry: AudienceEntry, audience: Audience) -> bool:
    return (entry.owner_id, entry.segment_id) == (audience.owner_id, audience.segment_id)


def _is_same(entry: AccountEntry, account: Account | None) -> bool:
    named = (entry.kind, entry.public_id)
    return account is not None and named == (account.kind.value, account.public_id)


async def _gone(
    conn: AsyncConnection,
    catalog: CatalogSnapshot,
    gone_accounts: Collection[int],
    lost_jobs: Collection[int],
) -> tuple[str, ...]:
    """Say what only the store knows of."""
    ours = {audience.id: audience for audience in await audiences.audiences(conn)}
    names = {entry.id: entry.public_id for entry in catalog.accounts}
    lines = [
        f"account {entry.id}: {entry.kind} {entry.public_id}"
        for entry in catalog.accounts
        if entry.id in gone_accounts
    ]
    lines += [
        f"audience {entry.id}: segment {entry.segment_id} of {names.get(entry.owner_id, '?')}"
        for entry in catalog.audiences
        if entry.id not in ours or not _is_same_audience(entry, ours[entry.id])
    ]
    return (*lines, *(f"job {number}" for number in lost_jobs))


async def _forbid_again(
    conn: AsyncConnection, catalog: CatalogSnapshot, *, now_s: float
) -> tuple[str, ...]:
    """Delete, hide and revoke what a newer catalog does not show, or shows as switched off."""
    if catalog.version <= await revision(conn):
        return ()
    said: list[str] = []
    shown = {entry.id: entry for entry in catalog.audiences}
    for audience in await audiences.audiences(conn):
        entry = shown.get(audience.id)
        state = audience.state
        if state is AudienceState.DELETED:
            continue
        if entry is None:
            state = AudienceState.DELETED
        elif _is_same_audience(entry, audience) and not entry.is_active:
            state = AudienceState.DEACTIVATED
        if state is not audience.state:
            await audiences.set_state(conn, audience, state, now_s=now_s)
            said.append(f"audience {audience.id} (segment {audience.segment_id}): {state.value}")
    silent = {entry.id for entry in catalog.accounts if not entry.is_active}
    by_number = {account.id: account for account in await accounts.accounts(conn)}
    for account in by_number.values():
        if account.is_active and account.id in silent:
            await accounts.set_account_active(conn, account, False)
            said.append(f"account {account.public_id}: deactivated")
    granted = {entry.id: entry for entry in catalog.recipients}
    for recipient in await recipients.recipients(conn):
        seen = granted.get(recipient.id)
        if seen is None or seen.name != recipient.name:
            continue
        if recipient.is_active and not seen.is_active:
            await recipients.set_recipient_active(conn, recipient, False)
            said.append(f"recipient {recipient.name}: deactivated")
        for number in sorted(set(recipient.partner_ids) - set(seen.partner_ids)):
            await recipients.revoke(conn, recipient, by_number[number])
            said.append(f"recipient {recipient.name}: no grant of {by_number[number].public_id}")
    return tuple(said)


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
    await raise_revision(conn, above=catalog.version)


async def _take_over(
    conn: AsyncConnection,
    theirs: Mapping[_Key, Collection[Id]],
    account_ids: Mapping[int, int],
    bucket_bits: int,
    now_s: float,
) -> int:
    """Record opt-outs of the store; return of how many ids."""
    taken = [
        Taken(action, account_ids.get(number), bucket_bits, sorted(ids))
        for (number, action), ids in sorted(theirs.items())
    ]
    await opt_outs.take_over(conn, taken, now_s=now_s)
    count = sum(len(each.ids) for each in taken)
    said = [Entry(f"take over {each.action.name}", times=len(each.ids)) for each in taken]
    await audit.add(conn, COMMAND_LINE, [*said, Entry("reconcile")], now_s=now_s)
    return count
