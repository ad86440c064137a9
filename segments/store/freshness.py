"""
How a worker knows that opt-outs still reach the store: a number that loaders raise.

    loader   once every opt-out of the ledger is in: INCR, once a second
    worker   if the number has not changed within RTB_OPT_OUTS_MAX_AGE_S: enriches no bid

Acknowledged opt-outs are in force (`segments.projection.in_force`). An opt-out that is not yet
acknowledged, because the store takes no writes, may be ignored for that long at most: a loader
that can't write, or has not applied everything, does not raise the number. An unreadable record
holds nothing up, because a bid that meets this record is not enriched.

Only the change counts, by the worker's own monotonic clock: wall clocks, the number of loaders
and the increment don't matter. A worker that meets a new run of a server waits for the first
change, because the number itself may be as old as the run's data. Loaders raise the number far
more often than the tightest setting needs (`MIN_MAX_AGE_S` is six times that), so that new
workers start at once and replacing a loader goes unnoticed.

In a Cluster each master has its own number, under a key of its own slots. So a master that can't
be written goes stale by itself; its replicas replicate the number.
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
"""How often a loader checks, and raises the number."""

_PASSES: Final = (*REDIRECTS, ClusterDownError, BusyLoadingError)


async def raise_notes(servers: Iterable[Server]) -> None:
    """
    Raise the number on each server: every opt-out of its slots is in.

    A Cluster's node that is away, or has lost the slot meanwhile, is left to the next round.

    Raises:
        StoreRefuses: A server refuses to write; the others were written all the same.
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
