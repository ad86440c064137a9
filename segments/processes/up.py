"""
The whole service on a single host: store, loader, doors and bid listener.

    embedded store  ->  ledger's opt-outs and catalog in it  ->  loader, doors  ->  bid listener

The parts start in the order of their dependencies and stop in reverse. The listener comes last, so
its first answer respects every opt-out and knows every audience. Each part is a process, restarted
if it dies. Meanwhile the others go on: without the store, bids pass through; without the loader,
files wait.
"""

import asyncio
import logging
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from redis.exceptions import RedisError

from segments.ledger.database.engine import open_ledger
from segments.processes.part import Part, Program, restart
from segments.projection.catalog import catch_up
from segments.projection.one_ledger import before_making, refuse_other
from segments.runtime.fork_server import ForkServer
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.error_code import in_words
from segments.store.meta import prepare
from segments.store.reader import StoreRefuses
from segments.store.servers.connection import connect

_log = logging.getLogger(__name__)

PROGRAMS_IMPORT = (
    "segments.cli.ingest",
    "segments.cli.sftp",
    "segments.cli.api",
    "segments.cli.console",
    # Names, not imports: the control plane must not depend on the data plane.
    "rtb.__main__",
    "rtb.server.worker",
)
"""The modules of the programs that run as parts."""

_COMMANDS = "segments.__main__"
_BIDS = "bid listener"


async def up(settings: Settings, fork_server: ForkServer) -> None:
    """
    Run the whole service until SIGTERM or SIGINT; SIGHUP restarts the bid workers in turn.

    `fork_server` has imported `PROGRAMS_IMPORT`.

    Raises:
        CannotRun: A part exited right after its start, and has logged why.
        segments.store.reader.StoreUnusable: The store is not ours to write.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopped.set)

    kept: list[asyncio.Task[None]] = []
    try:
        if settings.embedded_store:
            store = EmbeddedStore(settings.data_dir)
            await store.start()
            kept.append(asyncio.create_task(_keep(store)))
        await _prepare(settings)
        for program in _programs(settings, fork_server):
            await program.start()
            if program.name == _BIDS:
                loop.add_signal_handler(signal.SIGHUP, program.hang_up)
            kept.append(asyncio.create_task(_keep(program)))
        await _first_of(stopped, kept)
    finally:
        _log.info("stopping")
        for task in reversed(kept):
            task.cancel()
            await asyncio.wait([task])


def _programs(settings: Settings, fork_server: ForkServer) -> tuple[Program, ...]:
    start = fork_server.start
    env = dict(os.environ)
    if settings.explain_secret is None:
        # Only the console asks the bid listener.
        env["RTB_EXPLAIN_SECRET"] = secrets.token_urlsafe()
    console = (Program("console", partial(start, _COMMANDS, ("console",), env=env)),)
    return (
        Program("loader", partial(start, _COMMANDS, ("loader",))),
        Program("SFTP door", partial(start, _COMMANDS, ("sftp",))),
        Program("REST doors", partial(start, _COMMANDS, ("api",))),
        *(console if settings.is_console_up else ()),
        Program(_BIDS, partial(start, "rtb.__main__", env={**_at_once(), **env})),
    )


def _at_once() -> Mapping[str, str]:
    # In a terminal there is no load balancer, and Ctrl-C should stop at once.
    return {"RTB_STOP_ACCEPTING_AFTER_S": "0"} if sys.stdin and sys.stdin.isatty() else {}


async def _prepare(settings: Settings) -> None:
    """
    Bring the store up to the ledger. The parts wait for an ill store; bids pass through.

    Raises:
        StoreUnusable: The store can't be used without the operator; another ledger's, say.
    """
    async with (
        connect(settings.store_url) as redis,
        open_ledger(settings.ledger_dsn, before_making(redis, settings.embedded_in)) as ledger,
    ):
        try:
            await refuse_other(ledger, redis)
            await prepare(redis, settings.expected_ids)
            await catch_up(ledger, redis, settings.expected_ids)
        except StoreRefuses as error:
            _log.error("%s; the parts start without it", error)
        except RedisError as error:
            _log.error("%s; the parts start without it", in_words(error))


async def _first_of(stopped: asyncio.Event, kept: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the stop signal, or for a part that can't be kept running."""
    signalled = asyncio.create_task(stopped.wait())
    done, _ = await asyncio.wait([signalled, *kept], return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    for task in done - {signalled}:
        task.result()


async def _keep(part: Part) -> None:
    """
    Keep a started part running until cancelled; then stop it.

    Raises:
        CannotRun: The part exited before it was ever well.
    """
    try:
        await restart(part, _log)
    finally:
        await part.stop()
