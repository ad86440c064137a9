"""
Rebuilds an emptied store automatically, if the operator has enabled that.

The holder of the lease `seg:1:refill` rebuilds. After a kill, the store stays closed under a claim
that marks the rebuild as automatic, and the next holder begins again. An operator's rebuild is not
touched.

An unreadable file does not stop the rest: the log names its job.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from obstore.exceptions import BaseError
from redis.exceptions import RedisError

from segments.ingest.tools import Tools
from segments.ledger import jobs
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.loader.catch_up import in_one_line
from segments.runtime.pauses import wait_or_stop
from segments.store import rebuild_claim
from segments.store.meta import is_laid_out
from segments.store.reader import StoreUnusable, read_meta
from segments.store.refill_lease import RefillLease
from segments.upkeep.rebuild import CannotRebuild, Progress, rebuild

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_RENEW_EVERY_S = 10.0


async def refill_when_empty(
    tools: Tools, expected_ids: int, stopping: asyncio.Event, *, settle_s: float | None = None
) -> None:
    """
    Rebuild the store whenever it came back empty, until stopped.

    `expected_ids`: persons that the store is laid out for; `stopping`: a broken-off rebuild begins
    again later; `settle_s`: see `segments.upkeep.rebuild.rebuild`.
    """
    while not stopping.is_set():
        try:
            if await _is_wanted(tools):
                await _refill(tools, expected_ids, stopping, settle_s)
        except (RedisError, StoreUnusable, CannotRebuild, BaseError, *LEDGER_FAILURES) as error:
            _log.warning("rebuild of the empty store: put off, %s", in_one_line(error))
        await wait_or_stop(stopping, _LOOK_EVERY_S)


async def _is_wanted(tools: Tools) -> bool:
    """Tell whether the store is empty, or its automatic rebuild was broken off."""
    if not await is_laid_out(tools.redis):
        return await rebuild_claim.is_automatic(tools.redis)
    if not (await read_meta(tools.redis)).is_unfilled:
        return False
    async with reading(tools.ledger) as conn:
        return await jobs.any_carried(conn)


async def _refill(
    tools: Tools, expected_ids: int, stopping: asyncio.Event, settle_s: float | None
) -> None:
    lease = RefillLease(tools.redis)
    if not await lease.keep():
        return
    try:
        if not await _is_wanted(tools):
            return  # another loader was faster
        _log.warning("the store came back empty, and is made anew (SEGMENTS_REBUILD_WHEN_EMPTY)")
        done = await _carried_out(
            rebuild(tools, expected_ids, skip_missing=True, settle_s=settle_s, is_automatic=True),
            lease,
            stopping,
        )
        if done is not None:
            _log.warning("the store is made anew: %d rows of %d jobs", done.rows, done.jobs)
            if done.skipped:
                named = ", ".join(map(str, done.skipped))
                _log.error(
                    "the store is made anew without jobs whose file can't be read: %s", named
                )
    finally:
        await lease.give_back()


async def _carried_out(
    work: Coroutine[Any, Any, Progress], lease: RefillLease, stopping: asyncio.Event
) -> Progress | None:
    """
    Run a rebuild under the renewed lease; return `None` if told to stop.

    Raises:
        StoreUnusable: The lease ran out, and another loader has taken it.
    """
    doing = asyncio.create_task(work)
    stopped = asyncio.create_task(stopping.wait())
    try:
        while not doing.done() and not stopped.done():
            await asyncio.wait(
                (doing, stopped), timeout=_RENEW_EVERY_S, return_when=asyncio.FIRST_COMPLETED
            )
            if not doing.done() and not await lease.keep():
                raise StoreUnusable("another loader does it")
        return doing.result() if doing.done() else None
    finally:
        for task in (doing, stopped):
            task.cancel()
        await asyncio.wait((doing, stopped))
