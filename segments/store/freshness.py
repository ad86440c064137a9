"""
How a worker knows that opt-outs still reach the store: a number that loaders raise.

    loader   once every opt-out of the ledger is in: INCR, once a second
    worker   if the number has not changed within RTB_OPT_OUTS_MAX_AGE_S: enriches no bid

Acknowledged opt-outs are in force (`segments.projection.in_force`). One not yet acknowledged,
because the store takes no writes, is ignored for that long at most. Unreadable records don't count:
their bids are not enriched.

Only a change counts, by the worker's monotonic clock. At a new run of a server the worker waits for
the first change, because the number may be as old as the run's data. The number rises six times as
often as the tightest setting (`MIN_MAX_AGE_S`) needs, so new workers start at once and replacing a
loader goes unnoticed.

In a Cluster each master has a number under a key of its slots: an unwritable master goes stale.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from redis.exceptions import BusyLoadingError, ClusterDownError, RedisError, ResponseError

from segments.store.error_code import why_refused
from segments.store.keys import FRESH
from segments.store.reader import StoreRefuses
from segments.store.servers.majority import WITHIN_S
from segments.store.servers.masters import REDIRECTS, Server

RAISED_EVERY_S: Final = 1.0
"""Between a loader's checks."""

_PASSES: Final = (*REDIRECTS, ClusterDownError, BusyLoadingError)


async def raise_notes(servers: Iterable[Server]) -> None:
    """
    Raise the number on each server: every opt-out of its slots is in.

    Leaves a Cluster's node that is away, or has lost the slot, to the next round.

    Raises:
        StoreRefuses: A server refuses to write; the others were written.
        redis.exceptions.RedisError: The only server can't be reached.
    """
    whom = [server for server in servers if server.slots]
    said = await asyncio.gather(*map(_raise_note, whom), return_exceptions=True)
    for server, error in zip(whom, said, strict=True):
        if isinstance(error, ResponseError) and not isinstance(error, _PASSES):
            raise StoreRefuses(f"the store refuses to write: {why_refused(error)}")
        if isinstance(error, BaseException) and not (
            server.node is not None and isinstance(error, (RedisError, OSError))
        ):
            raise error


async def _raise_note(server: Server) -> None:
    if server.node is None:
        await server.execute(b"INCR", server.key(FRESH))
        return
    async with asyncio.timeout(WITHIN_S):  # a TimeoutError is an OSError
        await server.execute(b"INCR", server.key(FRESH))
