"""
What a loader does beside its files: sweeps and forgets old marks, once a day, and scrubs.

In no hurry, and whatever breaks it off is tried again a little later.
"""

import asyncio
import logging

from obstore.exceptions import BaseError
from redis.exceptions import RedisError

from segments.ingest.ids_only import LOOK_EVERY_S
from segments.ingest.tools import Tools
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.runtime.pauses import wait_or_stop
from segments.store.reader import StoreUnusable
from segments.upkeep.lost_jobs import forget_old
from segments.upkeep.originals import Seen, see_to_originals
from segments.upkeep.scrub.scrubber import Scrub, Scrubber
from segments.upkeep.sweep import Swept, sweep_daily

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0
"""Whoever deletes an audience asks for a sweep before the day is over."""


class _ToldToStop(Exception):
    """There is no time for the rest."""


async def keep_house(
    tools: Tools, abandoned_after_s: float, is_ready: asyncio.Event, stopping: asyncio.Event
) -> None:
    """
    Do what is due until told to stop.

    Args:
        tools: Ledger, store, blobs and time.
        abandoned_after_s: After how long an upload that was never finished is deleted.
        is_ready: Set while the store may be written to.
        stopping: Set by whoever wants it to stop.
    """

    def stop_if_told(_: Swept) -> None:
        if stopping.is_set():
            raise _ToldToStop

    while not stopping.is_set():
        await is_ready.wait()
        try:
            stop_if_told(Swept())
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
        except _ToldToStop:
            return
        except (RedisError, StoreUnusable, BaseError, *LEDGER_FAILURES) as error:
            _log.warning("sweep: broken off (%s)", type(error).__name__)
        else:
            if done is not None:
                _log.info("sweep: %s", _swept(*done))
        await wait_or_stop(stopping, _LOOK_EVERY_S)


async def scrub_in_time(
    tools: Tools, within_s: float, refused_file_s: float, stopping: asyncio.Event
) -> None:
    """
    Scrub the files in time, and see to originals and strays once an hour, until told to stop.

    The store may be away meanwhile: nothing of it is asked.

    Args:
        tools: Ledger, blobs and time.
        within_s: Within how long of an ERASURE its ids are gone from the files.
        refused_file_s: How long a file is kept that was refused for its metadata.
        stopping: Set by whoever wants it to stop.
    """
    scrubber = Scrubber(tools.ledger, tools.blobs, tools.spool_dir, tools.now_s)
    strays_at_s = 0.0

    def stop_if_told(_: Scrub | Seen) -> None:
        if stopping.is_set():
            raise _ToldToStop

    while not stopping.is_set():
        try:
            done = await scrubber.scrub(tools.now_s() - within_s / 2, stop_if_told)
            if tools.now_s() - strays_at_s >= LOOK_EVERY_S:
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
