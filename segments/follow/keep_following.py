"""
Follows a publication until stopped, and reports to the listener beside it.

    every RTB_FOLLOW_POLL_S   a look; if it fails, the log has the reason and the remedy, once
    every second              the mark for bids, and `status.json` if something has changed

A hanging mount holds up the looks alone.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import RedisError

from segments.follow.failures import FAILURES, event_of, in_one_line
from segments.follow.follower import Follower
from segments.runtime.follow_status import FollowStatus
from segments.runtime.pauses import wait_or_stop
from segments.store.freshness import RAISED_EVERY_S

_log = logging.getLogger(__name__)


async def keep_following(
    follower: Follower,
    poll_s: float,
    stopping: asyncio.Event,
    tell: Callable[[FollowStatus], None] = lambda _: None,
) -> None:
    """
    Follow until stopped.

    `poll_s`: the pause between two looks; `tell`: called with each new status; its `OSError` is
    ignored.
    """
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(_keep_looking(follower, poll_s, stopping))
        group.create_task(_keep_raising(follower, stopping, tell))
        await stopping.wait()
        looking.cancel()  # even amid a wait


async def _keep_looking(follower: Follower, poll_s: float, stopping: asyncio.Event) -> None:
    said: str | None = None
    while not stopping.is_set():
        try:
            follower.trouble = await follower.look()
        except FAILURES as error:
            follower.counts[event_of(error)] += 1
            follower.trouble = in_one_line(error)
        if follower.trouble != said:
            said = follower.trouble
            if said:
                _log.warning("not followed: %s", said)
            elif follower.state is not None:
                _log.info("followed up to %d", follower.state.number)
        await wait_or_stop(stopping, poll_s)


async def _keep_raising(
    follower: Follower, stopping: asyncio.Event, tell: Callable[[FollowStatus], None]
) -> None:
    told: FollowStatus | None = None
    while not stopping.is_set():
        with suppress(RedisError):
            await follower.raise_fresh()
        status = follower.status
        if status != told:
            with suppress(OSError):  # a full volume, reported by the next look
                tell(status)
                told = status
        await wait_or_stop(stopping, RAISED_EVERY_S)
