"""
A pod without a network: a store that follows a publication, and its bid listener.

    store without persistence  ->  bid listener, not ready yet  ->  store filled, then updated

All parts end with this process, and start afresh: the volume keeps only the number that guards
against an older publication. `seg:1:fresh` tells the listener whether the publication is recent
enough (`segments.follow.follower`).
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from segments.files.published_place import PublishedPlace
from segments.follow.follower import Follower
from segments.follow.keep_following import keep_following
from segments.processes.part import Program, restart
from segments.runtime.follow_settings import FollowSettings
from segments.runtime.follow_status import FRESH_FOR_S, FollowStatus, follow_dir, write_status
from segments.runtime.fork_server import ForkServer
from segments.runtime.store_url import store_url
from segments.store.embedded import EmbeddedStore
from segments.store.published.latest import Keys
from segments.store.servers.connection import connect

_log = logging.getLogger(__name__)


PROGRAMS_IMPORT: Final = ("rtb.__main__", "rtb.server.worker")
"""Modules of the bid listener: names, as the control plane must not depend on the data plane."""


async def follow(settings: FollowSettings, options: Sequence[str], fork_server: ForkServer) -> None:
    """
    Run store, follower and listener until SIGTERM or SIGINT.

    `options` are the bid listener's; `fork_server` has imported `PROGRAMS_IMPORT`.

    Raises:
        ValueError: A key is invalid.
        segments.files.published_place.PlaceUnusable: The place is not usable.
        segments.store.reader.StoreUnusable: The store can't be started in the data folder.
        segments.runtime.supervision.CannotRun: The listener can't run with its settings.
    """
    assert settings.follow is not None, "there is something to follow"
    trusted, place = Keys.of(settings.follow_keys), PublishedPlace(settings.follow)
    spool_dir = follow_dir(settings.data_dir)
    store = EmbeddedStore(settings.data_dir, is_kept=False)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    listener = _listener(options, fork_server)
    await store.start()
    try:
        spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in spool_dir.glob("*.seg"):
            left.unlink()
        write_status(
            settings.data_dir, FollowStatus(pid=os.getpid(), max_age_s=settings.follow_max_age_s)
        )
        await listener.start()
        loop.add_signal_handler(signal.SIGHUP, listener.hang_up)
        async with connect(store_url(None, settings.data_dir)) as redis:
            follower = Follower(
                redis,
                place,
                trusted,
                spool_dir,
                max_age_s=settings.follow_max_age_s,
                now_s=time.time,
                monotonic_s=time.monotonic,
            )
            await _until_stopped(
                stopping,
                asyncio.create_task(
                    keep_following(
                        follower,
                        settings.follow_poll_s,
                        stopping,
                        partial(write_status, settings.data_dir),
                    )
                ),
                asyncio.create_task(restart(store, _log, must_be_well=False)),
                asyncio.create_task(restart(listener, _log)),
            )
    finally:
        _log.info("stopping")
        await listener.stop()
        await store.stop()


def _listener(options: Sequence[str], fork_server: ForkServer) -> Program:
    env = {**os.environ, "RTB_OPT_OUTS_MAX_AGE_S": f"{FRESH_FOR_S:g}"}
    return Program("bid listener", partial(fork_server.start, "rtb.__main__", options, env=env))


async def _until_stopped(stopping: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    signalled = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait({signalled, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {signalled}:
            task.result()
    finally:
        for task in (signalled, *tasks):
            task.cancel()
        await asyncio.wait((signalled, *tasks))
