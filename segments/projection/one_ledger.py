"""
One store, one ledger: only the store's own ledger writes to it, and never an old copy.

By the id in the store's meta, a process with another ledger (a forgotten SEGMENTS_LEDGER_URL, say)
refuses, and names both.

A restored copy has the same id, and is recognised by its numbers. The store is told each number of
an audience, an opt-out and a catalog before its use, and keeps the highest. A ledger with lower
numbers is *behind*: it would assign numbers twice, and so show a partner's persons as another's,
lacks recent opt-outs, and would show deleted audiences again. A copy that went on without the store
may have numbers as high, but another transaction id of that opt-out, or another name of its catalog
(`segments.ledger.revision`): it is behind, too.

A process that finds the ledger behind marks the store, which stops all reads and writes (bids:
`store_down`, `ledger_behind`) until `rtb-segments reconcile`, or the right ledger is back.

The store is read before the ledger, which has a number first.

An emptied store belongs to the first ledger whose loader finds it; to an empty ledger only until
a ledger with content comes. A store written by an older version belongs to the present ledger.
"""

import asyncio
import time
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import ledger_id
from segments.ledger.database.engine import BeforeMaking, LedgerUnusable, reading
from segments.ledger.revision import name_of, revision
from segments.store import keys, meta
from segments.store.meta import Told
from segments.store.reader import (
    LedgerBehind,
    Meta,
    StoreUnusable,
    Whose,
    read_meta_of_any,
    read_version,
    read_whose,
)

UNNAMED = "unnamed"
"""The name in messages for an older version's ledger."""


STORE_WITHIN_S = 30.0
"""For the store's answer, before a ledger is made."""

_LOOK_EVERY_S = 0.2


class OtherLedger(StoreUnusable):
    """The store belongs to another ledger; the message names both."""

    def __init__(self, theirs: str, ours: str) -> None:
        super().__init__(
            f"the store belongs to ledger {theirs}, and this is ledger {ours}: set"
            " SEGMENTS_DATA_DIR or SEGMENTS_LEDGER_URL to where its own is; to give the store"
            f" to this one for good, run `rtb-segments adopt-store --from {theirs}`"
        )


async def own_meta(ledger: AsyncEngine, redis: Redis) -> Meta:
    """
    Return the store's meta if our ledger may write; for use before every write.

    Side effects: tells the store our catalog's revision, and so each audience before its first
    member.

    Raises:
        OtherLedger: The store belongs to another ledger.
        LedgerBehind: Our ledger is behind; the store is marked.
        StoreUnusable: The store is not laid out, or can't be read.
    """
    found = await read_meta_of_any(redis)
    ours = await _compare(ledger, redis, found.whose)
    found = found._replace(whose=found.whose._replace(behind=""))
    if found.whose.ledger_id and ours.revision > found.whose.last_revision:
        await meta.tell(redis, found, ours)
    return found


async def taken_meta(ledger: AsyncEngine, redis: Redis) -> Meta:
    """
    As `own_meta`, after taking a store without a ledger.

    Raises:
        OtherLedger, LedgerBehind, StoreUnusable: As `own_meta`.
    """
    found = await read_meta_of_any(redis)
    if not found.whose.ledger_id or found.whose.is_of_empty_ledger:
        await take_store(ledger, redis, found.whose)
    return await own_meta(ledger, redis)


async def refuse_other(ledger: AsyncEngine, redis: Redis) -> None:
    """
    Check that a store, laid out or not, has no other ledger, and ours is not behind.

    Raises:
        OtherLedger, LedgerBehind: As `own_meta`.
    """
    await _compare(ledger, redis, await read_whose(redis))


def before_making(redis: Redis, embedded_in: Path | None) -> BeforeMaking:
    """
    Return the check for `open_ledger` before it makes a ledger: `refuse_beside_another`.

    `embedded_in` is the data directory of an embedded store.
    """

    async def see() -> None:
        if embedded_in is None or (embedded_in / "store").exists():
            await refuse_beside_another(redis)

    return see


async def refuse_beside_another(redis: Redis) -> None:
    """
    Check that the store has no ledger, before we make ours.

    Other processes must not make a ledger meanwhile.

    Raises:
        LedgerUnusable: The store has a ledger, or does not answer.
    """
    whose = await _asked_in_time(redis)
    if whose.ledger_id or await redis.hlen(keys.ACCOUNTS.decode()):
        raise LedgerUnusable(
            f"no ledger is made beside a store that has one: ledger {whose.ledger_id or UNNAMED}."
            " Set SEGMENTS_DATA_DIR or SEGMENTS_LEDGER_URL to where that is, or bring it back from"
            " a backup; if it is lost for good, run `rtb-segments adopt-store --from"
            f" {whose.ledger_id or UNNAMED}`, which makes one that takes over the store's opt-outs"
        )


async def _asked_in_time(redis: Redis) -> Whose:
    give_up_at_s = time.monotonic() + STORE_WITHIN_S
    while True:
        try:
            return await read_whose(redis)
        except (RedisError, OSError):
            if time.monotonic() > give_up_at_s:
                raise LedgerUnusable(
                    "there is no ledger yet, and the store does not answer: one is made only where"
                    " it is certain that the store has none. Start the store first"
                ) from None
        await asyncio.sleep(_LOOK_EVERY_S)


async def take_for_rebuild(ledger: AsyncEngine, redis: Redis) -> None:
    """
    Make a store our ledger's before a rebuild; tell it our numbers.

    Raises:
        OtherLedger, LedgerBehind: As `own_meta`.
    """
    await refuse_other(ledger, redis)
    whose = await read_whose(redis)
    async with reading(ledger) as conn:
        ours = await ledger_id.standing(conn)
        of = await ledger_id.transaction_of(conn, ours.last_opt_out)
        told = await to_be_told(conn)
    if whose.ledger_id != ours.ledger_id:
        await take_store(ledger, redis, whose)
    told = told._replace(opt_out=ours.last_opt_out, opt_out_of=of)
    await meta.tell_closed(redis, told)


async def take_store(ledger: AsyncEngine, redis: Redis, whose: Whose) -> None:
    """
    Make a store our ledger's if it has none, or an empty ledger and ours is not.

    Raises:
        OtherLedger: The store has accounts and ours has none: an older version filled it from
            another ledger.
    """
    async with reading(ledger) as conn:
        ours = (await ledger_id.standing(conn)).ledger_id
        holds_anything = await ledger_id.holds_anything(conn)
    is_filled = bool(await redis.hlen(keys.ACCOUNTS.decode()))
    if is_filled and not whose.ledger_id and not holds_anything:
        raise OtherLedger(UNNAMED, ours)
    if whose.ledger_id not in ("", ours) and holds_anything:
        # The empty ledger's catalog may have a higher version.
        await redis.delete(keys.VERSION)
    if whose.ledger_id != ours or holds_anything:
        await meta.take(redis, ours, holds_anything=holds_anything)


async def to_be_told(conn: AsyncConnection) -> Told:
    """Return our catalog's revision, and the highest audience number."""
    version = await revision(conn)
    last_audience = (await ledger_id.standing(conn)).last_audience
    return Told(
        audience=last_audience, revision=version, revision_name=await name_of(conn, version)
    )


async def behind(conn: AsyncConnection, whose: Whose, shown: int) -> str:
    """
    Return how far our ledger, read after the store, is behind it; empty: not.

    `shown` is the version of the catalog in the store; 0: not to be compared.

    Raises:
        OtherLedger: The store belongs to another ledger.
    """
    ours = await ledger_id.standing(conn)
    if not whose.ledger_id:
        return ""
    if whose.ledger_id != ours.ledger_id:
        raise OtherLedger(whose.ledger_id, ours.ledger_id)
    if ours.last_audience < whose.last_audience or ours.last_opt_out < whose.last_opt_out:
        return (
            f"its last audience is {ours.last_audience}, the store was told of"
            f" {whose.last_audience}; its last opt-out is {ours.last_opt_out}, the store was told"
            f" of {whose.last_opt_out}"
        )
    # As high, but by an unnoticed copy's opt-out.
    is_to_compare = whose.last_opt_out_of and whose.last_opt_out > ours.taken_until
    if is_to_compare:
        of = await ledger_id.transaction_of(conn, whose.last_opt_out)
        if of != whose.last_opt_out_of:
            return f"its opt-out {whose.last_opt_out} is not the one that the store was told of"
    version = await revision(conn)
    if version < max(shown, whose.last_revision):
        shown = max(shown, whose.last_revision)
        return f"its catalog is version {version}, the store was told of {shown}"
    name = whose.last_revision_name
    if name and await name_of(conn, whose.last_revision) != name:
        return f"its catalog {whose.last_revision} is not the one that the store was told of"
    return ""


async def note_behind(redis: Redis, behind: str, whose: Whose) -> None:
    """
    Mark the store as so far ahead of the ledger, or remove the mark.

    Raises:
        LedgerBehind: The ledger is behind.
    """
    if behind:
        if whose.behind != behind:
            await meta.mark_behind(redis, behind)
        raise LedgerBehind(behind)
    if whose.behind:
        await meta.unmark_behind(redis)


async def _compare(ledger: AsyncEngine, redis: Redis, whose: Whose) -> Told:
    """Check that our ledger is not behind; return numbers for the store."""
    # Publishing compares the shown version; but the mark may go only when everything is right.
    shown = await read_version(redis) if whose.behind else 0
    async with reading(ledger) as conn:
        by_so_much = await behind(conn, whose, shown)
        ours = await to_be_told(conn)
    await note_behind(redis, by_so_much, whose)
    return ours
