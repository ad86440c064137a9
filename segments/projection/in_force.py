"""
Acknowledged means in force.

**A 202 of a data subject request, exit status 0 of `restrict` and `erase`, a 204 or
"deleted" of an audience, and the answer to an activation's change leave only when no worker
of this deployment can show what they forbid any more.** Where that can't be had in time, the
answer is another one (503, exit status 3), says so, and can be repeated without anything
being done twice: what was asked is in the ledger, and is applied before anything else as
soon as anybody can. "This deployment" are the workers that read this store.

    opt-out   ours     ledger -> store -> leases of caches waited out
              theirs   a loader does that, and marks the ledger
    catalog   ours     ledger -> published -> leases on catalogs waited out
              theirs   a loader does that, and marks the ledger

Both are tried at once, for a time: a process may have lost a store that loader and workers
have, or have no permission to write to it. A store that reads and does not write (full,
a replica by now, without its own replicas, without its disk) is like one that is away:
workers go on asking it, so nothing may be acknowledged. What bounds that is freshness: see
`segments.store.freshness`.

That a person is shown to no bid that *begins* after the acknowledgement is what is
promised; a bid that is being answered in the same moment may still leave.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import suppress
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import LedgerAway, reading
from segments.ledger.privacy import opt_outs
from segments.ledger.privacy.opt_outs import Request
from segments.ledger.revision import in_force, note_in_force, revision
from segments.projection.applied_opt_outs import apply_new
from segments.projection.catalog import publish_catalog
from segments.store.catalog_lease import wait_out_catalog_leases
from segments.store.reader import StoreUnusable, read_version

RETRY_AFTER_S: Final = 5
"""When to ask again for what is not in force yet: a few of a loader's looks."""

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5


class Receipt(NamedTuple):
    """
    What became of requests; in the ledger they are for good.

    `waits_because` is empty if they are in force. Otherwise it says why not, and they are
    applied before anything else is written to the store.
    """

    transaction_ids: tuple[str, ...]
    waits_because: str = ""


async def put_into_force(
    ledger: AsyncEngine, redis: Redis, requests: Sequence[Request], *, wait_s: float | None = None
) -> Receipt:
    """
    Apply requests that were recorded to the store, or see a loader do so.

    Args:
        ledger: Where they have been committed.
        redis: The store.
        requests: Some thousands at most.
        wait_s: How long that may take, a loader's help included; `None`: no loader is
            waited for, and the store for as long as its client has patience.
    """
    transaction_ids = tuple(request.transaction_id for request in requests)
    attempt = asyncio.create_task(_attempt(ledger, redis, requests))
    if wait_s is None:
        return Receipt(transaction_ids, await attempt)
    # One that takes too long is left to itself: the sooner they are applied, the better.
    _AT_WORK.add(attempt)
    attempt.add_done_callback(_AT_WORK.discard)
    if await until_applied(ledger, transaction_ids, wait_s, attempt):
        return Receipt(transaction_ids)
    why = attempt.result() if attempt.done() else "the store does not answer"
    return Receipt(transaction_ids, why)


_AT_WORK: Final[set[asyncio.Task[str]]] = set()
"""Attempts that somebody else may have given up; the event loop would forget them."""


async def withdraw_from_bids(ledger: AsyncEngine, redis: Redis, *, wait_s: float) -> str:
    """
    Publish the catalog, or see a loader do so, until no bid is answered by one that shows more.

    Args:
        ledger: Where the change has been committed.
        redis: The store.
        wait_s: How long publishing may take, a loader's help included.

    Returns:
        Why that could not be had; nothing if it is in force. The change stays in the
        ledger, and a loader publishes it as soon as it can.
    """
    async with reading(ledger) as conn:
        wanted = await revision(conn)
    attempt = asyncio.create_task(_tried(publish_catalog(ledger, redis)))
    _AT_WORK.add(attempt)
    attempt.add_done_callback(_AT_WORK.discard)

    async def is_in_force() -> bool:
        return await _is_in_force(ledger, wanted)

    if not await _until(is_in_force, wait_s, attempt):
        return attempt.result() if attempt.done() else "the store does not answer"
    if not attempt.done() or attempt.result():
        return ""  # a loader has waited out the leases, too
    return await _tried(wait_out_catalog_leases(redis))


async def let_catalog_be_in_force(ledger: AsyncEngine, redis: Redis) -> None:
    """
    Note in the ledger that no bid is answered by a catalog before the one that the store shows.

    A loader's part: whoever has lost the store waits for it.

    Raises:
        redis.exceptions.RedisError: The store can't be reached.
        segments.ledger.database.engine.LedgerAway: The ledger can't.
    """
    version = await read_version(redis)
    if await _is_in_force(ledger, version):
        return
    await wait_out_catalog_leases(redis)
    async with ledger.begin() as conn:
        await note_in_force(conn, version)


async def _is_in_force(ledger: AsyncEngine, wanted: int) -> bool:
    async with reading(ledger) as conn:
        return await in_force(conn) >= wanted


async def until_applied(
    ledger: AsyncEngine,
    transaction_ids: Sequence[str],
    wait_s: float,
    attempt: asyncio.Task[str] | None = None,
) -> bool:
    """
    Wait until the ledger says of all these requests that they are in force.

    Args:
        ledger: Which a loader marks.
        transaction_ids: Theirs.
        wait_s: For so long at most.
        attempt: Of our own to do the same; comes to why not, or to nothing.

    Returns:
        Whether they are in force.
    """

    async def are_applied() -> bool:
        async with reading(ledger) as conn:
            return await opt_outs.are_applied(conn, transaction_ids)

    return await _until(are_applied, wait_s, attempt)


async def _until(
    is_done: Callable[[], Awaitable[bool]], wait_s: float, attempt: asyncio.Task[str] | None
) -> bool:
    """Wait until the ledger says that it is done, or an attempt comes to no fault."""
    until_s = time.monotonic() + wait_s
    pause_s = _FIRST_PAUSE_S
    while True:
        left_s = until_s - time.monotonic()
        if attempt is not None:
            await asyncio.wait({attempt}, timeout=max(0, min(pause_s, left_s)))
            if attempt.done() and not attempt.result():
                return True
        with suppress(LedgerAway):
            if await is_done():
                return True
        if left_s <= 0:
            return False
        if attempt is None or attempt.done():
            await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _attempt(ledger: AsyncEngine, redis: Redis, requests: Sequence[Request]) -> str:
    """Apply requests by ourselves; return why that could not be, if it could not."""
    waiting: Set[int] = frozenset()

    async def apply() -> None:
        nonlocal waiting
        waiting = await apply_new(ledger, redis, requests)

    why = await _tried(apply())
    return why or ("the store holds records of them that can't be read" if waiting else "")


async def _tried(work: Awaitable[object]) -> str:
    """Return why something could not be done, if it could not; for people."""
    try:
        await work
    except StoreUnusable as error:
        return str(error)
    except (RedisError, OSError) as error:
        # By its type only: what a connection error says may hold the store's URL.
        return f"the store can't be written ({type(error).__name__})"
    except LedgerAway:
        return "the ledger can't be reached"
    return ""
