"""
What a loader does once a day, beside its files: sweeps, and forgets old marks.

In no hurry, and whatever breaks it off is tried again a little later.
"""

import asyncio
import logging
from contextlib import suppress

from obstore.exceptions import BaseError
from redis.exceptions import RedisError

from segments.ingest.again import forget_old
from segments.ingest.run import Tools
from segments.ledger.engine import LedgerAway
from segments.settings import Settings
from segments.store.reader import StoreUnusable
from segments.sweep import Swept, sweep_daily

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0
"""Whoever deletes an audience asks for a sweep before the day is over."""


class _ToldToStop(Exception):
    """There is no time for the rest."""


async def keep_house(
    tools: Tools, settings: Settings, is_ready: asyncio.Event, stopping: asyncio.Event
) -> None:
    """
    Do what is due until told to stop.

    Args:
        tools: Ledger, store, blobs and time.
        settings: How old is old.
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
                abandoned_after_s=settings.abandoned_after_s,
            )
            if done is not None:
                await forget_old(tools.ledger, tools.redis, tools.now_s())
        except _ToldToStop:
            return
        except (RedisError, StoreUnusable, LedgerAway, BaseError, OSError) as error:
            _log.warning("sweep: broken off (%s)", type(error).__name__)
        else:
            if done is not None:
                _log.info("sweep: %s", _swept(*done))
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_EVERY_S)


def _swept(swept: Swept, blobs: int) -> str:
    return (
        f"{swept.dropped} memberships dropped from {swept.buckets} buckets,"
        f" {blobs} orphaned files deleted"
    )
