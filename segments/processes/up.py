"""
Everything on one host: store, loader, doors and bid listener, started in the
order in which they need each other and stopped in the reverse.

    embedded store  ->  ledger's opt-outs and catalog in it  ->  loader, doors  ->  bid listener

The listener comes last, so the first bid that is answered already knows every
opt-out and every audience. Each runs in a process of its own; one that dies is
started again, and while it is down the others go on: without the store, bids
pass through; without the loader, files wait.
"""

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from typing import Protocol

from segments.ledger.database.engine import open_ledger
from segments.projection.catalog import catch_up
from segments.projection.one_ledger import before_making, refuse_other
from segments.runtime import child_process
from segments.runtime.pauses import Backoff
from segments.runtime.supervision import supervise
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.meta import prepare
from segments.store.servers.connection import connect

_log = logging.getLogger(__name__)

_BIDS = "bid listener"
_STOP_WITHIN_S = 30
_PAUSES = Backoff(0.2, 10.0)
_WELL_AFTER_S = 5.0


class Part(Protocol):
    """A process of the service that can be started again after it ended."""

    name: str

    async def start(self) -> None:
        """Start it, and wait until it can be used."""

    async def wait(self) -> int:
        """Return its exit status once it has ended."""

    async def stop(self) -> None:
        """End it in an orderly way; nothing to do if it has ended."""


class Program:
    """One of our own commands, as a part."""

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._argv = argv
        self._env = env
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it; how soon it can be used is its own affair."""
        self._process = await child_process.start(self._argv, env=self._env)

    async def wait(self) -> int:
        """Return its exit status once it has ended; negative if a signal ended it."""
        assert self._process is not None, "started before it is waited for"
        return await self._process.wait()

    def hang_up(self) -> None:
        """Send it SIGHUP, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End it, at the latest by force; nothing to do if it has ended."""
        if self._process is not None:
            await child_process.stop(self._process, within_s=_STOP_WITHIN_S)


async def up(settings: Settings) -> None:
    """
    Run the whole service until SIGTERM or SIGINT; the bid listener rolls at each SIGHUP.

    Raises:
        CannotRun: A part ended as soon as it was started; it has said why.
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
        for program in _programs():
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


def _programs() -> tuple[Program, ...]:
    return (
        Program("loader", (sys.executable, "-m", "segments", "loader")),
        Program("SFTP door", (sys.executable, "-m", "segments", "sftp")),
        Program("REST doors", (sys.executable, "-m", "segments", "api")),
        Program(_BIDS, (sys.executable, "-m", "rtb"), _env_of_bids()),
    )


def _env_of_bids() -> Mapping[str, str]:
    # No load balancer sends to a terminal, and a person who has typed Ctrl-C is waiting.
    at_once = {"RTB_STOP_ACCEPTING_AFTER_S": "0"} if sys.stdin and sys.stdin.isatty() else {}
    return {**at_once, **os.environ}


async def _prepare(settings: Settings) -> None:
    async with (
        connect(settings.store_url) as redis,
        open_ledger(settings.ledger_dsn, before_making(redis, settings.embedded_in)) as ledger,
    ):
        await refuse_other(ledger, redis)
        await prepare(redis, settings.expected_ids)
        await catch_up(ledger, redis, settings.expected_ids)


async def _first_of(stopped: asyncio.Event, kept: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the signal to stop, or for a part that can't be kept running."""
    signalled = asyncio.create_task(stopped.wait())
    done, _ = await asyncio.wait([signalled, *kept], return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    for task in done - {signalled}:
        task.result()


async def _keep(part: Part) -> None:
    """
    Keep a started part running until cancelled, which stops it.

    Raises:
        CannotRun: It gave up at once, before it had ever been well.
    """
    try:
        await supervise(
            part.name, part.wait, part.start, _log,
            pauses=_PAUSES, well_after_s=_WELL_AFTER_S, must_be_well=True,
        )  # fmt: skip
    finally:
        await part.stop()
