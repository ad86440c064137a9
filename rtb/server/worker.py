"""
A process of the bid listener: an event loop, listening sockets, a link to the store.

Sockets and the metrics' memory are the supervisor's, so clients wait in the queue while a dead
worker is replaced. A worker that starts accepts no connection until it can enrich, or until
`--accept-after-s` are over: soon for a service's first worker, never for a successor.

SIGTERM drains: the worker takes only the connections in the accept queue, and answers requests in
flight. A connection ends with its next answer, which announces that, or after a moment of silence:
at once, the close would cut off a client that is writing.

If a task for link, clock or catalog fails, the error is counted and logged, the worker drains and
exits with status 1, and the supervisor starts another.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import uvloop

from rtb.catalog import Catalog
from rtb.lookup.endpoint import lookup_of
from rtb.lookup.link import LookupFault
from rtb.openrtb import targeting
from rtb.openrtb.curation import read_segment_request
from rtb.pipeline import Pipeline
from rtb.server.answer_forms import Asked
from rtb.server.bids import MS_PER_S, Bid, BidOptions, Bids
from rtb.server.call_plans import call_options_of
from rtb.server.calls import Calls
from rtb.server.catalog_follower import CatalogLease, follow
from rtb.server.deadline_timer import Deadlines
from rtb.server.extra_headers import TellingBid, age_line_of
from rtb.server.http.protocol import Guest, Site
from rtb.server.http.request_heads import Head
from rtb.server.http.request_reader import Limits
from rtb.server.http.turn import Asker
from rtb.server.http2.connection import Http2
from rtb.server.http2.session import SessionLimits, new_session_of
from rtb.server.listening_sockets import BACKLOG
from rtb.server.metrics.cache_meter import CacheMeter
from rtb.server.metrics.layout import LINK_FAULT, LINK_UP, Gauge, Said, Where
from rtb.server.metrics.shared_counters import SharedCounters
from rtb.server.probes import Probes
from rtb.server.seen_recorder import SeenRecorder
from rtb.server.settings_handoff import SettingsHandoff
from rtb.settings import RtbSettings
from segments.runtime.bug_place import bug_place
from segments.runtime.descriptors import max_connections, tell_of_descriptors
from segments.runtime.log_lines import log_to_stderr
from segments.runtime.telemetry import Telemetry
from segments.runtime.tls import context_of
from segments.store.error_code import Refusal
from segments.store.servers.connection import connect

_log = logging.getLogger(__name__)

_BEAT_S = 0.25
_POLL_S = 0.01
_QUIET_S = 1.0
"""While draining; then a quiet connection is closed."""

_SWITCH_INTERVAL_S = 0.0005
"""A catalog's parser delays bids for so long at most; Python's default is 5 ms."""

_GC_THRESHOLD = 50_000
"""New objects between collections: bids leave no cycles."""


_NOT_MARKED = "the follower has not marked the data as recent enough yet: that takes a second"


class Bugs:
    """Counts bugs; logs type and place, never text, of one a second at most."""

    def __init__(self, counters: SharedCounters) -> None:
        self._counters = counters
        self._logged_at_s = -1.0

    def __call__(self, where: Where, bug: Exception) -> None:
        """Count a bug, whose message could quote a person's id."""
        self._counters.count_bug(where)
        now_s = time.monotonic()
        if now_s - self._logged_at_s < 1:
            return
        self._logged_at_s = now_s
        _log.error("bug in %s: %s", where, bug_place(bug))


class Worker:
    """
    All parts of one worker.

    Args:
        settings: As the supervisor read them.
        listening: The sockets of the ports, already listening.
        counters: The worker's row.
        index: The worker's number.
    """

    def __init__(
        self,
        settings: RtbSettings,
        listening: Sequence[socket.socket],
        counters: SharedCounters,
        index: int = 0,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._settings = settings
        self._listening = listening
        self._counters = counters
        self._ssl = context_of(settings.tls, alpn=("h2", "http/1.1"))
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
            silent_after_s=settings.deadline_cap_ms / MS_PER_S,
        )
        if not settings.opt_outs_max_age_s:
            _log.warning(
                "RTB_OPT_OUTS_MAX_AGE_S is 0: bids are enriched even if no loader confirms"
                " that opt-outs reach the store"
            )
        if settings.read_replicas:
            _log.warning(
                "RTB_READ_REPLICAS: replicas of the store are asked, too; an opt-out is in force"
                " once all that are connected to their masters have confirmed it"
            )
        self._following = settings.following
        self._cache_meter = CacheMeter(self._lookup, counters)
        limits = Limits(
            max_body_bytes=settings.max_body_bytes,
            head_timeout_s=settings.header_timeout_s,
            body_timeout_s=settings.body_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
            max_unfinished_bytes=settings.max_unfinished_bytes,
            long_path=targeting.PATH if settings.targeting else b"",
        )
        self.http2 = Http2(
            new_session_of(),
            loop.call_soon,
            SessionLimits(max_head_bytes=limits.max_any_head_bytes),
            max_age_s=settings.h2_max_age_s,
            rng=random.Random(),  # noqa: S311 - spreads the ends of connections, keeps no secret
        )
        pipeline = Pipeline(settings.pipeline_options)
        self.bids = Bids(
            pipeline,
            self._lookup,
            Deadlines(loop, time.monotonic),
            counters,
            options=BidOptions(
                deadline_cap_ms=settings.deadline_cap_ms,
                tmax_share=settings.tmax_share,
                max_in_flight=settings.max_in_flight,
                max_body_bytes=settings.max_body_bytes,
                allow_unnamed_recipient=settings.allow_unnamed_recipient,
                default_recipient=settings.default_recipient,
                outcome_header=settings.outcome_header,
                tells_reason=settings.debug_header,
                targeting_recipients=frozenset(settings.targeting_recipients),
            ),
            others=dict(_other_pipelines(settings)),
            on_bug=bugs,
            call_soon=loop.call_soon,
            flush=self.http2.flush,
        )
        is_telling = settings.debug_header or settings.data_age_header
        new_bid: Callable[[Asker, Head], Bid] = partial(
            TellingBid if is_telling else Bid, self.bids
        )
        self._end_traces: Callable[[], None] | None = None
        telemetry = settings.telemetry(f"worker-{index}")
        new_calls: Callable[..., Calls] = Calls
        if telemetry is not None and settings.trace_every:
            new_bid, new_calls = self._traced(new_bid, pipeline, telemetry)
        self.calls = new_calls(
            self.bids,
            pipeline.ask_of,
            call_options_of(settings),
            new_bid,
            lambda: self.is_serving,
        )
        self.site = Site(
            new_bid,
            limits,
            counters.count_refusal,
            partial(bugs, Where.HTTP),
            max_connections=max_connections(),
            names_of_client=_client_reader(settings),
            open_http2=self.http2.connection,
            new_turn_of_stream=self.calls.new_turn,
        )
        loop.set_exception_handler(partial(_on_loop_error, bugs))
        self._catalog_lease = CatalogLease(settings.catalog_lease_ms, time.monotonic)
        self._last_message = self._lookup.message
        self._last_refusal: Refusal | None = None
        self._last_complaint = ""
        self._unserved: frozenset[str] = frozenset()

    @property
    def is_serving(self) -> bool:
        """Whether it could once enrich, and is not draining."""
        return bool(self._counters.cells[Gauge.HAS_ENRICHED]) and not self.site.is_draining

    async def run(self, stop: asyncio.Event, *, accept_after_s: float = 0) -> None:
        """
        Serve until `stop` is set, or a bug (`is_broken`); then drain.

        Args:
            stop: Set once.
            accept_after_s: Seconds after which it accepts without a catalog or a link to the store.
        """
        self._counters.start()
        self._beat()
        redis = connect(self._settings.store_url)
        accept_at_s = self._loop.time() + accept_after_s
        servers = None if accept_after_s else await self._serve()
        beating = asyncio.create_task(self._beat_for_ever())
        telling = asyncio.create_task(tell_of_descriptors(_log))
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
        tasks = [following, linking, beating, telling]
        if self._settings.remember_seen:
            self.bids.seen = SeenRecorder(redis, self._counters)
            tasks.append(asyncio.create_task(self.bids.seen.run()))
        for task in tasks:
            task.add_done_callback(partial(self._on_ended, stop))
        try:
            while servers is None and not stop.is_set():
                can_enrich = self._lookup.fault is None and self.bids.is_confirmed
                if can_enrich or self._loop.time() >= accept_at_s:
                    servers = await self._serve()
                else:
                    await asyncio.sleep(_POLL_S)
            if servers is not None:
                await stop.wait()
                await self._drain(servers)
        finally:
            await _cancelled(*tasks)
            self._cache_meter.read()
            await redis.aclose()
            if self._end_traces is not None:
                await asyncio.to_thread(self._end_traces)

    def _traced(
        self, new_bid: Callable[[Asker, Head], Bid], pipeline: Pipeline, telemetry: Telemetry
    ) -> tuple[Callable[[Asker, Head], Bid], Callable[..., Calls]]:
        """Trace one bid in `trace_every`; a worker without tracing imports none of this."""
        from segments.runtime.otlp import tracer_provider  # noqa: PLC0415, I001 - it comes first
        from rtb.server.bid_spans import BidSpans  # noqa: PLC0415
        from rtb.server.traced_bids import (  # noqa: PLC0415
            SampledBids,
            SampledCalls,
            Sampling,
            TracedBid,
        )

        provider = tracer_provider(telemetry)
        self._end_traces = provider.shutdown
        emit = BidSpans(provider.get_tracer("rtb-segments"))
        sampling = Sampling(self._settings.trace_every)
        traced = partial(TracedBid, self.bids, pipeline, emit)
        return SampledBids(sampling, new_bid, traced), partial(SampledCalls, sampling, emit)

    async def _serve(self) -> Sequence[asyncio.Server]:
        servers = [
            await self._loop.create_server(
                self.site.connection, sock=one.dup(), backlog=BACKLOG, **self._tls()
            )
            for one in self._listening
        ]
        # The gauges must be current when the supervisor sees `IS_LISTENING`.
        self._beat()
        self._counters.cells[Gauge.IS_LISTENING] = 1
        return servers

    async def _drain(self, servers: Iterable[asyncio.Server]) -> None:
        self.site.drain()
        self._counters.cells[Gauge.IS_DRAINING] = 1
        for server in servers:
            server.close()
        for one in self._listening:
            await self._take_accepted(one)
            one.close()
        deadline_s = self._loop.time() + self._settings.drain_s
        # Turns of the loop, not time: a busy machine may delay them.
        turns_quiet: dict[Guest, int] = {}
        while self.site.connections and self._loop.time() < deadline_s:
            idle = {connection for connection in self.site.connections if connection.is_idle}
            turns_quiet = {one: turns_quiet.get(one, 0) + 1 for one in idle}
            for connection, turns in turns_quiet.items():
                if turns > _QUIET_S / _POLL_S:
                    connection.close()
            await asyncio.sleep(_POLL_S)
        for connection in tuple(self.site.connections):
            connection.close()
        # Another turn, to send buffered output.
        await asyncio.sleep(0)

    async def _take_accepted(self, listening: socket.socket) -> None:
        """Serve the clients in the accept queue."""
        listening.setblocking(False)
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                client, _ = listening.accept()
                await self._loop.connect_accepted_socket(
                    self.site.connection, client, **self._tls()
                )

    def _tls(self) -> Mapping[str, Any]:
        """Return a socket's TLS arguments; `connection_made` follows the handshake."""
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
        """Update coarse clocks and gauges; end timed-out requests."""
        cells = self._counters.cells
        self.bids.wall_s = time.time()
        if self._settings.data_age_header and self._following is not None:
            self.bids.age_line = age_line_of(self._following.age_s())
        self.site.sweep(self._loop.time())
        if cells[Gauge.IS_STOPPING]:
            self.site.drain()
        fault = self._lookup.fault
        cells[Gauge.BEAT_AT_S] = int(time.monotonic())
        cells[Gauge.LINK] = LINK_UP if fault is None else LINK_FAULT[fault]
        cells[Gauge.IS_CATALOG_CONFIRMED] = self.bids.is_confirmed
        cells[Gauge.IS_UNFILLED] = self._lookup.is_unfilled
        if fault is None and self.bids.is_confirmed:
            cells[Gauge.HAS_ENRICHED] = 1
        cells[Gauge.IN_FLIGHT] = self.bids.in_flight
        cells[Gauge.CONNECTIONS] = len(self.site.connections)
        self._cache_meter.read()
        if self._lookup.refusal != self._last_refusal:
            self._last_refusal = self._lookup.refusal
            self._counters.say(Said.STORE_REFUSAL, str(self._last_refusal or ""))
        if self._lookup.message != self._last_message:
            self._last_message = self._lookup.message
            unasked = self._lookup.message if fault is None else ""
            self._counters.say(Said.UNASKED_NODES, unasked)
            if not self._lookup.message:
                _log.info("connected to the store")
                if self._last_complaint:
                    # Not well yet: the log's last line must say so.
                    _log.warning("%s", self._last_complaint)
            else:
                _log.warning("%s", self._why_down(fault))

    def _why_down(self, fault: LookupFault | None) -> str:
        """Return why the store can't be asked; a pod that follows has no loader."""
        if self._following is not None and fault in (
            LookupFault.OPT_OUTS_STALE,
            LookupFault.UNUSABLE,
        ):
            return self._following.why_closed() or _NOT_MARKED
        return self._lookup.message

    def _adopt(self, catalog: Catalog) -> None:
        self.bids.adopt(catalog)
        self._counters.cells[Gauge.CATALOG_VERSION] = catalog.version
        self._tell_of_unserved(catalog)
        # Long-lived objects need no scan at each collection.
        gc.freeze()

    def _tell_of_unserved(self, catalog: Catalog) -> None:
        """Log once which recipients go unserved."""
        unserved = frozenset(_unserved(self._settings, catalog))
        for why in unserved - self._unserved:
            _log.error("%s", why)
        self._unserved = unserved

    def _confirm(self, until_s: float) -> None:
        self.bids.catalog_until_s = until_s
        self._counters.cells[Gauge.CATALOG_SEEN_AT_S] = int(time.time())

    def _complain(self, message: str, refusal: Refusal | None) -> None:
        if message != self._last_complaint:
            self._last_complaint = message
            self._counters.say(Said.CATALOG_REFUSAL, str(refusal or ""))
            if message:
                _log.warning("%s", message)


def _unserved(settings: RtbSettings, catalog: Catalog) -> Iterator[str]:
    """Yield why settings lack a recipient under this catalog."""
    name = settings.default_recipient
    if name is not None and catalog.recipient(name) is None:
        yield (
            f"RTB_DEFAULT_RECIPIENT: there is no active recipient {name}, so paths without a"
            " recipient are answered 404; `rtb-segments recipient list` has their names"
        )
    artf = settings.artf_recipient or ()
    for name in (artf,) if isinstance(artf, str) else set(dict(artf).values()):
        if catalog.recipient(name) is None:
            yield (
                f"RTB_ARTF_RECIPIENT: there is no active recipient {name}, so its calls are"
                " answered without mutations; `rtb-segments recipient list` has their names"
            )
    for name in settings.targeting_recipients if settings.targeting else ():
        if catalog.recipient(name) is None:
            yield (
                f"RTB_TARGETING_RECIPIENTS: there is no active recipient {name}, so its questions"
                " are answered 404; `rtb-segments recipient list` has their names"
            )
    if catalog.needs_certificates and settings.tls_client_ca is None:
        yield (
            "RTB_TLS_CLIENT_CA is not set, and there are recipients that need a client's"
            " certificate: they are answered 401; `rtb-segments recipient list` has them"
        )


def _other_pipelines(settings: RtbSettings) -> Iterator[tuple[Asked, Pipeline]]:
    if settings.curation_options is not None:
        yield Asked.SEGMENT_REQUEST, Pipeline(settings.curation_options, read_segment_request)
    if settings.targeting_options is not None:
        read = targeting.Targeting(settings.targeting_prefixes)
        yield Asked.TARGETING, Pipeline(settings.targeting_options, read)


def _client_reader(
    settings: RtbSettings,
) -> Callable[[asyncio.BaseTransport], frozenset[str] | None]:
    if settings.tls_client_ca is None:
        return lambda _: None
    # The import takes a tenth of a second, and 10 MB.
    from segments.runtime.client_certificates import names_of_client  # noqa: PLC0415

    return names_of_client


def _on_loop_error(bugs: Bugs, _: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
    """Count an uncaught error; the loop's handler would log its message."""
    error = context.get("exception")
    # A broken connection is no bug.
    if isinstance(error, Exception) and not isinstance(error, OSError):
        bugs(Where.LOOP, error)


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they end: redis-py may swallow a cancellation."""
    pending: Iterable[asyncio.Task[None]] = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)


async def _serve(
    settings: RtbSettings,
    listening: Sequence[socket.socket],
    counters: SharedCounters,
    supervisor: bytes,
    index: int,
    *,
    accept_after_s: float,
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # The supervisor decides: it alone handles a terminal's Ctrl-C.
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    worker = Worker(settings, listening, counters, index)
    if settings.has_health_on_bid_port or settings.has_metrics_on_bid_port:
        worker.bids.probes = Probes(
            supervisor,
            has_health=settings.has_health_on_bid_port,
            has_metrics=settings.has_metrics_on_bid_port,
        )
    await worker.run(stop, accept_after_s=accept_after_s)
    return int(worker.is_broken)


def main() -> None:
    """Run a worker; see `rtb.server.worker_slot` for its arguments."""
    parser = argparse.ArgumentParser()
    for number in ("index", "row", "metrics-fd", "settings-fd"):
        parser.add_argument(f"--{number}", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, action="append", required=True)
    parser.add_argument("--supervisor", type=bytes.fromhex, required=True)
    parser.add_argument("--accept-after-s", type=float, required=True)
    arguments = parser.parse_args()
    settings = SettingsHandoff.read(arguments.settings_fd)
    log_to_stderr(settings.log_level, settings.log_format, f"worker-{arguments.index}")
    counters = SharedCounters(arguments.metrics_fd, arguments.row)
    listening = [socket.socket(fileno=fd) for fd in arguments.listen_fd]
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
    gc.freeze()
    serving = _serve(
        settings,
        listening,
        counters,
        arguments.supervisor,
        arguments.index,
        accept_after_s=arguments.accept_after_s,
    )
    sys.exit(uvloop.run(serving))


if __name__ == "__main__":
    main()
