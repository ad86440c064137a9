"""
A loader's daily sweep, which also drops old marks, its census, and its scrubs.

Failures are tried again a little later.
"""

import asyncio
import logging

from obstore.exceptions import BaseError
from redis.exceptions import RedisError

from segments.ingest.ids_only import LOOK_EVERY_S
from segments.ingest.tools import Tools
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.runtime.pauses import wait_or_stop
from segments.store.changed_buckets import forget_abandoned
from segments.store.reader import StoreUnusable
from segments.upkeep.census import census_if_due
from segments.upkeep.lost_jobs import forget_old
from segments.upkeep.originals import Seen, see_to_originals
from segments.upkeep.scrub.scrubber import Scrub, Scrubber
from segments.upkeep.sweep import Swept, sweep_daily

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0
"""For a deleted audience, which wants a sweep."""


class _ToldToStop(Exception):
    """Breaks off the work at hand."""


async def keep_house(
    tools: Tools, abandoned_after_s: float, is_ready: asyncio.Event, stopping: asyncio.Event
) -> None:
    """
    Do the due work until stopped.

    `abandoned_after_s`: the age at which an unfinished upload is deleted; `is_ready`: set while the
    store accepts writes.
    """

    def stop_if_told(_: Swept | None = None) -> None:
        if stopping.is_set():
            raise _ToldToStop

    while not stopping.is_set():
        await is_ready.wait()
        try:
            stop_if_told()
            done = await sweep_daily(
                tools.ledger,
                tools.redis,
                tools.blobs,
                tools.now_s,
                stop_if_told,
                abandoned_after_s=abandoned_after_s,
            )
            if done is not None:
                await forget_old(tools.ledger, tools.redis, tools.now_s())
                await forget_abandoned(tools.redis, tools.now_s())
            counted = await census_if_due(tools.ledger, tools.redis, tools.now_s, stop_if_told)
        except _ToldToStop:
            return
        except (RedisError, StoreUnusable, BaseError, *LEDGER_FAILURES) as error:
            _log.warning("sweep or census: broken off (%s)", type(error).__name__)
        else:
            if done is not None:
                _log.info("sweep: %s", _swept(*done))
            if counted is not None:
                _log.info("census: %d audiences, %d persons, %d records unreadable", *counted)
        await wait_or_stop(stopping, _LOOK_EVERY_S)


async def scrub_in_time(
    tools: Tools, within_s: float, refused_file_s: float, stopping: asyncio.Event
) -> None:
    """
    Scrub files in time, originals and strays once an hour, until stopped.

    Works without the store.

    `within_s`: limit to remove an ERASURE's ids; `refused_file_s`: for which a refused file is
    kept.
    """
    scrubber = Scrubber(
        tools.ledger, tools.blobs, tools.spool_dir, tools.now_s, tools.reserve_bytes
    )
    strays_at_s = 0.0

    def stop_if_told(_: Scrub | Seen) -> None:
        if stopping.is_set():
            raise _ToldToStop

    while not stopping.is_set():
        try:
            done = await scrubber.scrub(tools.now_s() - within_s / 2, stop_if_told)
            if abs(tools.now_s() - strays_at_s) >= LOOK_EVERY_S:
                seen = await see_to_originals(tools, refused_file_s, stop_if_told)
                if any(seen):
                    _log.info(
                        "delivered files: %d became ids, %d were deleted, %d can't be read", *seen
                    )
                await scrubber.delete_strays()
                strays_at_s = tools.now_s()
        except _ToldToStop:
            return
        except (BaseError, *LEDGER_FAILURES) as error:
            _log.warning("scrub: broken off (%s)", type(error).__name__)
        else:
            if done.rewritten or done.deleted:
                _log.info(
                    "scrub: %d lines taken out of %d files, %d files deleted",
                    done.lines,
                    done.rewritten,
                    done.deleted,
                )
        await wait_or_stop(stopping, min(_LOOK_EVERY_S, within_s / 4))


def _swept(swept: Swept, blobs: int) -> str:
    return (
        f"{swept.dropped} memberships dropped from {swept.buckets} buckets,"
        f" {blobs} orphaned files deleted"
    )
