"""
How a worker knows that opt-outs still reach the store: a number that loaders raise.

    loader   every opt-out of the ledger is in; then INCR, once a second
    worker   has it seen the number change within RTB_OPT_OUTS_MAX_AGE_S? else it enriches nobody

What is acknowledged is in force (`segments.projection.in_force`). What is not acknowledged
yet, because the store does not take it, may be shown for so long and no longer: a loader
that can't write raises nothing, and one that has not brought in everything does not either.
An opt-out whose record can't be read holds nothing up, for a bid that meets this record is
not enriched.

Only the change counts, by the worker's own monotonic clock: no wall clock is compared, and
it does not matter how many loaders raise it, nor by how much. A worker that meets a run of
a server for the first time waits for the first change: a number that merely stands there
may be as old as the copy that it came with. Loaders raise it far more often than the
tightest setting needs (`MIN_MAX_AGE_S` is six times that), so that a new worker need not
wait, and a loader may be replaced without anybody noticing.

In a Cluster each master carries a number of its own, under a key of a slot that it has, so
a master that can't be written goes stale by itself; its replicas have it from it.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from segments.store.error_code import kind_of
from segments.store.keys import FRESH
from segments.store.reader import StoreUnusable
from segments.store.servers.majority import WITHIN_S
from segments.store.servers.masters import Server

RAISED_EVERY_S: Final = 1.0
"""How often a loader looks, and raises it."""

_PASSES: Final = (AskError, MovedError, ClusterDownError, TryAgainError, BusyLoadingError)


async def raise_notes(servers: Iterable[Server]) -> None:
    """
    Say to each server that every opt-out there is of its slots is in.

    Of a Cluster, a node that is away or has lost the slot meanwhile is left to the next look.

    Raises:
        StoreUnusable: One refuses to write; the others were told all the same.
        redis.exceptions.RedisError: The one server that there is can't be reached.
    """
    whom = [server for server in servers if server.slots]
    said = await asyncio.gather(*map(_raise_note, whom), return_exceptions=True)
    for server, error in zip(whom, said, strict=True):
        if isinstance(error, ResponseError) and not isinstance(error, _PASSES):
            raise StoreUnusable(f"the store refuses to write: {kind_of(error)}")
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
