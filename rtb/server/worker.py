"""
One process of the bid listener: an event loop, a listening socket, a link to the store.

The supervisor starts it and hands it the socket and the memory of its metrics.
The socket outlives the process, so that while a dead worker is replaced its
clients wait in the queue instead of being refused. One that is to succeed another
(`--when-ready`) accepts nobody before it could enrich.

SIGTERM drains: no new connection is taken but those that the kernel has
accepted for us already; what is in flight is answered; each connection ends
with its next answer, which says so, or after a moment of silence. Closing a
quiet connection at once would cut off a client that is just writing.

A worker is no worker without its link, its clock and its catalog. Whoever keeps one of
these up goes on for ever; if it ends of an error all the same, that is counted and
logged, the worker drains and ends with status 1, and the supervisor starts another.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import random
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import uvloop

from rtb.catalog import Catalog
from rtb.lookup.endpoint import lookup_of
from rtb.pipeline import Pipeline
from rtb.server.bids import Bid, BidOptions, Bids
from rtb.server.catalog_follower import CatalogLease, follow
from rtb.server.deadline_timer import Deadlines
from rtb.server.debug_header import DebugBid
from rtb.server.http.protocol import Connection, Site
from rtb.server.http.request_reader import Limits
from rtb.server.listening_sockets import BACKLOG
from rtb.server.metrics.cache_meter import CacheMeter
from rtb.server.metrics.layout import LINK_FAULT, LINK_UP, Gauge, Where
from rtb.server.metrics.shared_counters import SharedCounters
from rtb.server.seen_recorder import SeenRecorder
from rtb.server.settings_handoff import SettingsHandoff
from rtb.settings import RtbSettings
from segments.runtime.bug_place import bug_place
from segments.runtime.tls import context_of
from segments.store.servers.connection import connect

_log = logging.getLogger(__name__)

_BEAT_S = 0.25
_POLL_S = 0.01
_QUIET_S = 1.0
"""A connection that has been quiet so long while we drain is closed."""

_SWITCH_INTERVAL_S = 0.0005
"""How long the thread that works out a catalog may hold bids up; Python's own is 5 ms."""

_GC_THRESHOLD = 50_000
"""Objects more before the collector looks: bids leave no cycles behind, so it finds nothing."""


class Bugs:
    """Counts bugs, and logs one a second: its type and its place, never its text."""

    def __init__(self, counters: SharedCounters) -> None:
        self._counters = counters
        self._logged_at_s = -1.0

    def __call__(self, where: Where, bug: Exception) -> None:
        """Count a bug; its message could quote a person's id, so nobody reads it."""
        self._counters.count_bug(where)
        now_s = time.monotonic()
        if now_s - self._logged_at_s < 1:
            return
        self._logged_at_s = now_s
        _log.error("bug in %s: %s", where, bug_place(bug))


class Worker:
    """
    The parts of one worker, put together.

    Args:
        settings: As the supervisor read them.
        listening: The socket, listening already.
        counters: Where it counts.
    """

    def __init__(
        self, settings: RtbSettings, listening: socket.socket, counters: SharedCounters
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._settings = settings
        self._listening = listening
        self._counters = counters
        self._ssl = context_of(settings.tls)
        self._bugs = bugs = Bugs(counters)
        self.is_broken = False
        self._lookup = lookup_of(
            settings.store_url,
            reads_replicas=settings.read_replicas,
            room=settings.room,
            rng=random.Random(),  # noqa: S311 - spreads reconnects, keeps no secret
            on_round_trip=counters.count_round_trip,
            on_bug=partial(bugs, Where.LOOKUP),
            opt_outs_max_age_s=settings.opt_outs_max_age_s,
        )
        if not settings.opt_outs_max_age_s:
            _log.warning(
                "RTB_OPT_OUTS_MAX_AGE_S is 0: bids are enriched however long no loader has said"
                " that opt-outs reach the store"
            )
        if settings.read_replicas:
            _log.warning(
                "RTB_READ_REPLICAS: replicas of the store are asked, too; an opt-out is in force"
                " once all that are connected to their masters have confirmed it"
            )
        self._cache_meter = CacheMeter(self._lookup, counters)
        self.bids = Bids(
            Pipeline(settings.pipeline_options),
            self._lookup,
            Deadlines(loop, time.monotonic),
            counters,
            options=BidOptions(
                deadline_cap_ms=settings.deadline_cap_ms,
                tmax_share=settings.tmax_share,
                max_in_flight=settings.max_in_flight,
                max_body_bytes=settings.max_body_bytes,
                allow_unnamed_recipient=settings.allow_unnamed_recipient,
                outcome_header=settings.outcome_header,
            ),
            on_bug=bugs,
            call_soon=loop.call_soon,
        )
        self.site = Site(
            partial(DebugBid if settings.debug_header else Bid, self.bids),
            Limits(
                max_body_bytes=settings.max_body_bytes,
                head_timeout_s=settings.header_timeout_s,
                body_timeout_s=settings.body_timeout_s,
                idle_timeout_s=settings.idle_timeout_s,
            ),
            counters.count_refusal,
            partial(bugs, Where.HTTP),
        )
        loop.set_exception_handler(partial(_on_loop_error, bugs))
        self._catalog_lease = CatalogLease(settings.catalog_lease_ms, time.monotonic)
        self._last_message = self._lookup.message
        self._last_complaint = ""

    async def run(self, stop: asyncio.Event, *, when_ready: bool = False) -> None:
        """
        Serve until `stop` is set, then drain; `is_broken` says whether that was our own doing.

        Args:
            stop: Set once.
            when_ready: Accept nobody before there is a catalog and a link to the store.
        """
        self._counters.start()
        self._beat()
        redis = connect(self._settings.store_url)
        server = None if when_ready else await self._serve()
        beating = asyncio.create_task(self._beat_for_ever())
        linking = asyncio.create_task(self._lookup.run())
        following = asyncio.create_task(
            follow(
                redis,
                hold_out=self._settings.hold_out,
                adopt=self._adopt,
                confirm=self._confirm,
                lease=self._catalog_lease,
                complain=self._complain,
                on_bug=partial(self._bugs, Where.CATALOG),
            )
        )
        tasks = [following, linking, beating]
        if self._settings.remember_seen:
            self.bids.seen = SeenRecorder(redis, self._counters)
            tasks.append(asyncio.create_task(self.bids.seen.run()))
        for task in tasks:
            task.add_done_callback(partial(self._on_ended, stop))
        try:
            while server is None and not stop.is_set():
                if self._lookup.fault is None and self.bids.is_confirmed:
                    server = await self._serve()
                else:
                    await asyncio.sleep(_POLL_S)
            if server is not None:
                await stop.wait()
                await self._drain(server)
        finally:
            await _cancelled(*tasks)
            self._cache_meter.read()
            await redis.aclose()

    async def _serve(self) -> asyncio.Server:
        server = await self._loop.create_server(
            self.site.connection, sock=self._listening.dup(), backlog=BACKLOG, **self._tls()
        )
        # Whoever waits for us to listen then reads how we are.
        self._beat()
        self._counters.cells[Gauge.IS_LISTENING] = 1
        return server

    async def _drain(self, server: asyncio.Server) -> None:
        self.site.is_draining = True
        self._counters.cells[Gauge.IS_DRAINING] = 1
        server.close()
        await self._take_accepted()
        self._listening.close()
        deadline_s = self._loop.time() + self._settings.drain_s
        # Counted in turns of the loop and not by the clock: of a turn that a busy machine
        # held up we know whether anything came, of the time that it took we do not.
        turns_quiet: dict[Connection, int] = {}
        while self.site.connections and self._loop.time() < deadline_s:
            idle = {connection for connection in self.site.connections if connection.is_idle}
            turns_quiet = {one: turns_quiet.get(one, 0) + 1 for one in idle}
            for connection, turns in turns_quiet.items():
                if turns > _QUIET_S / _POLL_S:
                    connection.close()
            await asyncio.sleep(_POLL_S)
        for connection in tuple(self.site.connections):
            connection.close()
        # One more turn of the loop, for what is written and has not left.
        await asyncio.sleep(0)

    async def _take_accepted(self) -> None:
        """Serve the clients whom the kernel has told that they are connected."""
        self._listening.setblocking(False)
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                client, _ = self._listening.accept()
                await self._loop.connect_accepted_socket(
                    self.site.connection, client, **self._tls()
                )

    def _tls(self) -> Mapping[str, Any]:
        """Return what wraps a client's socket; `connection_made` comes after the handshake."""
        if self._ssl is None:
            return {}
        return {"ssl": self._ssl, "ssl_handshake_timeout": self._settings.header_timeout_s}

    def _on_ended(self, stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._bugs(Where.LOOP, error)
            self.is_broken = self.is_broken or not stop.is_set()
            stop.set()

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            self._beat()

    def _beat(self) -> None:
        """Move the coarse clocks, end what has timed out, say how we are."""
        cells = self._counters.cells
        self.bids.wall_s = time.time()
        self.site.sweep(self._loop.time())
        if cells[Gauge.IS_STOPPING]:
            self.site.is_draining = True
        fault = self._lookup.fault
        cells[Gauge.BEAT_AT_S] = int(self.bids.wall_s)
        cells[Gauge.LINK] = LINK_UP if fault is None else LINK_FAULT[fault]
        cells[Gauge.IS_CATALOG_CONFIRMED] = self.bids.is_confirmed
        if fault is None and self.bids.is_confirmed:
            cells[Gauge.HAS_ENRICHED] = 1
        cells[Gauge.IN_FLIGHT] = self.bids.in_flight
        cells[Gauge.CONNECTIONS] = len(self.site.connections)
        self._cache_meter.read()
        if self._lookup.message != self._last_message:
            self._last_message = self._lookup.message
            if not self._lookup.message:
                _log.info("connected to the store")
            else:
                _log.warning("%s", self._lookup.message)

    def _adopt(self, catalog: Catalog) -> None:
        self.bids.adopt(catalog)
        self._counters.cells[Gauge.CATALOG_VERSION] = catalog.version
        # What is kept for long is not looked through at each collection.
        gc.freeze()

    def _confirm(self, until_s: float) -> None:
        self.bids.catalog_until_s = until_s
        self._counters.cells[Gauge.CATALOG_SEEN_AT_S] = int(time.time())
        self._last_complaint = ""

    def _complain(self, message: str) -> None:
        if message != self._last_complaint:
            self._last_complaint = message
            _log.warning("%s", message)


def _on_loop_error(bugs: Bugs, _: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
    """Count what no one caught; the loop's own handler would log it, message and all."""
    error = context.get("exception")
    # A connection that broke while it was written to is its client's affair.
    if isinstance(error, Exception) and not isinstance(error, OSError):
        bugs(Where.LOOP, error)


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they have ended: redis-py, at times, takes a cancellation for itself."""
    pending: Iterable[asyncio.Task[None]] = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)


async def _serve(
    settings: RtbSettings, listening: socket.socket, counters: SharedCounters, *, when_ready: bool
) -> int:
    """Serve until told to stop, and return the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # The supervisor decides; a terminal's Ctrl-C is for it alone.
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    worker = Worker(settings, listening, counters)
    await worker.run(stop, when_ready=when_ready)
    return int(worker.is_broken)


def main() -> None:
    """Run one worker; see `rtb.server.worker_slot` for its arguments."""
    parser = argparse.ArgumentParser()
    for number in ("index", "row", "listen-fd", "metrics-fd", "settings-fd"):
        parser.add_argument(f"--{number}", type=int, required=True)
    parser.add_argument("--when-ready", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s bid worker {arguments.index}: %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    settings = SettingsHandoff.read(arguments.settings_fd)
    counters = SharedCounters(arguments.metrics_fd, arguments.row)
    listening = socket.socket(fileno=arguments.listen_fd)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
    gc.freeze()
    sys.exit(uvloop.run(_serve(settings, listening, counters, when_ready=arguments.when_ready)))


if __name__ == "__main__":
    main()
