"""
Acknowledged means in force.

**A 202 of a data subject request, exit status 0 of `restrict` and `erase`, a 204 or "deleted" of an
audience, and the answer to an activation's change leave only when no worker of this deployment can
show any more what they forbid.** If that takes too long, the answer is an error (503, exit status
3) that says so. A retry is safe: the ledger has the request, which is applied once, before anything
else, as soon as the store takes writes. "This deployment" is the workers that read this store.

    opt-out   ours     ledger -> store -> wait out the cache leases
              theirs   a loader does that, and marks the ledger
    catalog   ours     ledger -> published -> wait out the catalog leases
              theirs   a loader does that, and marks the ledger

Both ways are tried at once, for a limited time: this process may lack the store or write
permission. A store that can't be written counts as away: workers go on reading it for a while
(`segments.store.freshness`), so nothing may be acknowledged.

The promise covers bids that *begin* after the acknowledgement.
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
from segments.store.servers.at_work import begin_work

RETRY_AFTER_S: Final = 5
"""Before retrying a request that is not in force: a few of a loader's rounds."""

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5


class Receipt(NamedTuple):
    """
    The result for some requests of the ledger.

    `waits_because`: why they are not in force, or empty.
    """

    transaction_ids: tuple[str, ...]
    waits_because: str = ""


async def put_into_force(
    ledger: AsyncEngine, redis: Redis, requests: Sequence[Request], *, wait_s: float | None = None
) -> Receipt:
    """
    Apply some thousand recorded requests, or wait until a loader has.

    `wait_s` limits both; `None`: only the client's timeouts, no loader.
    """
    transaction_ids = tuple(request.transaction_id for request in requests)
    # A slow attempt goes on.
    attempt = begin_work(redis, _attempt(ledger, redis, requests))
    if wait_s is None:
        return Receipt(transaction_ids, await attempt)
    if await until_applied(ledger, transaction_ids, wait_s, attempt):
        return Receipt(transaction_ids)
    why = attempt.result() if attempt.done() else "the store does not answer"
    return Receipt(transaction_ids, why)


async def withdraw_from_bids(ledger: AsyncEngine, redis: Redis, *, wait_s: float) -> str:
    """
    Publish the committed catalog, or wait for a loader to, until no bid uses an older one.

    `wait_s` limits both.

    Returns:
        Why the change is not in force yet, or empty. A loader will publish it.
    """
    async with reading(ledger) as conn:
        wanted = await revision(conn)
    attempt = begin_work(redis, _tried(publish_catalog(ledger, redis)))

    async def is_in_force() -> bool:
        return await _is_in_force(ledger, wanted)

    if not await _until(is_in_force, wait_s, attempt):
        return attempt.result() if attempt.done() else "the store does not answer"
    if not attempt.done() or attempt.result():
        return ""  # a loader has waited out the leases, too
    return await _tried(wait_out_catalog_leases(redis))


async def let_catalog_be_in_force(ledger: AsyncEngine, redis: Redis) -> None:
    """
    Note in the ledger, for others, that no bid uses a catalog older than the store's version.

    Raises:
        redis.exceptions.RedisError: The store can't be reached.
        segments.ledger.database.errors.LedgerAway: The ledger can't be reached.
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
    Wait until the ledger shows all these requests as in force; tell whether it did.

    `attempt` is ours; it returns why it failed, or empty.
    """

    async def are_applied() -> bool:
        async with reading(ledger) as conn:
            return await opt_outs.are_applied(conn, transaction_ids)

    return await _until(are_applied, wait_s, attempt)


async def _until(
    is_done: Callable[[], Awaitable[bool]], wait_s: float, attempt: asyncio.Task[str] | None
) -> bool:
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
    """Apply requests ourselves; return why that failed, or empty."""
    waiting: Set[int] = frozenset()

    async def apply() -> None:
        nonlocal waiting
        waiting = await apply_new(ledger, redis, requests)

    why = await _tried(apply())
    return why or ("the store holds records of them that can't be read" if waiting else "")


async def _tried(work: Awaitable[object]) -> str:
    """Return why some work failed, in words for people, or empty."""
    try:
        await work
    except StoreUnusable as error:
        return str(error)
    except (RedisError, OSError) as error:
        # The text may contain the store's URL.
        return f"the store can't be written ({type(error).__name__})"
    except LedgerAway:
        return "the ledger can't be reached"
    return ""
