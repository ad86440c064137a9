"""
One store, one ledger: nobody writes to a store by another ledger than its own, or by an old copy.

The ledger has an id, and the store's meta keeps it. So a process that was started
where another ledger lies (another data directory, a forgotten SEGMENTS_LEDGER_URL)
refuses, and says which is which.

A copy that was restored has the id, too, and is told by its numbers. The store keeps the
highest number of an audience, of an opt-out and of a catalog that it was ever told, and it
is told before they are used. A ledger whose own are lower is *behind*: it would give a number
twice, and show one partner's persons as another's; it lacks what persons said since; and it
would show again what was deleted since. A copy that has gone on by itself, while the store
was away, may have numbers as high. But its opt-out of that number has another transaction
id, and its catalog another name (`segments.ledger.revision`); each audience that is made is
a change of the catalog. So it is behind, too.

Whoever finds that marks the store, and from then on nobody reads or writes (bids end as
`store_down`, reason `ledger_behind`) until `rtb-segments reconcile` was run, or the ledger
is back that is not behind.

    own_meta      asked before each thing that writes
    taken_meta    the same by a loader, to whom a store falls that is nobody's yet

The store is asked first and the ledger then: what the store was told, the ledger had before.

A store that was emptied knows nothing: it becomes that ledger's whose loader comes
first, and an empty ledger's only until one comes that holds anything. A store that an
older version of this software has written to belongs to the ledger that is there.
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
"""What messages call the ledger of a store that an older version of this software has filled."""


STORE_WITHIN_S = 30.0
"""How long whoever is to make a ledger waits for the store, of which it must ask first."""

_LOOK_EVERY_S = 0.2


class OtherLedger(StoreUnusable):
    """The store belongs to another ledger than ours; the message says to which."""

    def __init__(self, theirs: str, ours: str) -> None:
        super().__init__(
            f"the store belongs to ledger {theirs}, and this is ledger {ours}: set"
            " SEGMENTS_DATA_DIR or SEGMENTS_LEDGER_URL to where its own is; to give the store"
            f" to this one for good, run `rtb-segments adopt-store --from {theirs}`"
        )


async def own_meta(ledger: AsyncEngine, redis: Redis) -> Meta:
    """
    Return the store's meta if the store is our ledger's to write to.

    Side effects: the store is told of our catalog, so that an audience is known before
    anybody is written into it.

    Raises:
        OtherLedger: It belongs to another one.
        LedgerBehind: Our ledger is behind it; from now on the store says so to everybody.
        StoreUnusable: It is not laid out, or can't be read.
    """
    found = await read_meta_of_any(redis)
    ours = await _compare(ledger, redis, found.whose)
    found = found._replace(whose=found.whose._replace(behind=""))
    if found.whose.ledger_id and ours.revision > found.whose.last_revision:
        await meta.tell(redis, found, ours)
    return found


async def taken_meta(ledger: AsyncEngine, redis: Redis) -> Meta:
    """
    Return the store's meta likewise, and make it our ledger's if it is nobody's yet.

    Raises:
        OtherLedger, LedgerBehind, StoreUnusable: As `own_meta`.
    """
    found = await read_meta_of_any(redis)
    if not found.whose.ledger_id or found.whose.is_of_empty_ledger:
        await take_store(ledger, redis, found.whose)
    return await own_meta(ledger, redis)


async def refuse_other(ledger: AsyncEngine, redis: Redis) -> None:
    """
    See that a store, laid out or not, is no other ledger's, and that ours is not behind it.

    Raises:
        OtherLedger, LedgerBehind: As `own_meta`.
    """
    await _compare(ledger, redis, await read_whose(redis))


def before_making(redis: Redis, embedded_in: Path | None) -> BeforeMaking:
    """
    Return what `open_ledger` is to await before it makes a ledger: see `refuse_beside_another`.

    Args:
        redis: The store beside it.
        embedded_in: The data directory of an embedded store; `None`: it is not embedded.
    """

    async def see() -> None:
        if embedded_in is None or (embedded_in / "store").exists():
            await refuse_beside_another(redis)

    return see


async def refuse_beside_another(redis: Redis) -> None:
    """
    See that a ledger may be made: that the store beside it has none.

    To be awaited where nobody else can make one meanwhile.

    Raises:
        LedgerUnusable: It has, or it can't be asked.
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
    Make a store that is about to be made anew our ledger's, and let it know our numbers.

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
    Make a store our ledger's if it is nobody's, or an empty ledger's and ours holds anything.

    Raises:
        OtherLedger: It has accounts, and ours has none: an older version filled it from another.
    """
    async with reading(ledger) as conn:
        ours = (await ledger_id.standing(conn)).ledger_id
        holds_anything = await ledger_id.holds_anything(conn)
    is_filled = bool(await redis.hlen(keys.ACCOUNTS.decode()))
    if is_filled and not whose.ledger_id and not holds_anything:
        raise OtherLedger(UNNAMED, ours)
    if whose.ledger_id not in ("", ours) and holds_anything:
        # Its catalog shows nothing, under a number that may be higher than any of ours.
        await redis.delete(keys.VERSION)
    if whose.ledger_id != ours or holds_anything:
        await meta.take(redis, ours, holds_anything=holds_anything)


async def to_be_told(conn: AsyncConnection) -> Told:
    """Return our catalog's revision, and the last audience that there is in it."""
    version = await revision(conn)
    last_audience = (await ledger_id.standing(conn)).last_audience
    return Told(
        audience=last_audience, revision=version, revision_name=await name_of(conn, version)
    )


async def behind(conn: AsyncConnection, whose: Whose, shown: int) -> str:
    """
    Say by how much our ledger is behind what a store was told; empty if it is not.

    Args:
        conn: A connection to the ledger, opened after the store was asked.
        whose: As the store says.
        shown: The version of the catalog that it shows; 0 if that is not to be compared.

    Raises:
        OtherLedger: It belongs to another one.
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
    # As high, but by an opt-out that came to the copy before anybody saw that it is one.
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
    Let everybody know whether the ledger is behind the store.

    Args:
        redis: The store.
        behind: By how much; empty: it is not.
        whose: As the store says.

    Raises:
        LedgerBehind: It is.
    """
    if behind:
        if whose.behind != behind:
            await meta.mark_behind(redis, behind)
        raise LedgerBehind(behind)
    if whose.behind:
        await meta.unmark_behind(redis)


async def _compare(ledger: AsyncEngine, redis: Redis, whose: Whose) -> Told:
    """See that our ledger is not behind; return what the store is to be told of it."""
    # What is shown is compared when it is published. But where the mark stands, all must be
    # well before it goes, for whatever reason it was set.
    shown = await read_version(redis) if whose.behind else 0
    async with reading(ledger) as conn:
        by_so_much = await behind(conn, whose, shown)
        ours = await to_be_told(conn)
    await note_behind(redis, by_so_much, whose)
    return ours
