"""
Health and metrics on their own port, from the memory that the workers write.

    /health/live    200 while the supervisor answers at all
    /health/ready   200 if a request sent now would be answered; with ?strict, if it would be
                    enriched; else 503 with the reason
    /healthz /healthcheck    as ready: the names of OpenX and Index
    /heartbeat      as live: Index's name
    /metrics        Prometheus, summed over all workers

The supervisor adds `/explain` (explain_endpoint.py).

The loss of a shared store makes no worker unready, since other pods have lost it too: bids pass
through. Three states do: a lost store of the pod's own; no ability to enrich since the start, for
rollouts to wait; and a stale catalog despite a link to the store, as others may have a fresh one.

Neither bids nor workers are asked: a worker hangs if its last beat is too old.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rtb.outcome import Outcome, Reason
from rtb.server.metrics import layout
from rtb.server.metrics.following import followed
from rtb.server.metrics.layout import CacheEvent, Gauge, Refusal, Said, SeenResult, Where
from rtb.server.metrics.processes import build_info, processes
from rtb.server.metrics.shared_counters import SharedCounters
from rtb.server.metrics.timings import timings
from segments.runtime.follow_status import FollowReader
from segments.runtime.health import Health

_BEAT_MAX_AGE_S = 3


class Board(Collector):
    """
    All workers' cells, read together.

    Args:
        all_counters: The rows of all processes.
        wall_s: Unix time; may be set back.
        monotonic_s: The machine's clock, common to all processes.
        in_office: Returns the row of each worker's present process, or `None`: successors and
            draining processes do not count in health. Default: all rows.
        url_scheme: Of bids: http or https.
        following: The progress of the follower, if the store is the pod's own.
    """

    def __init__(
        self,
        all_counters: Sequence[SharedCounters],
        wall_s: Callable[[], float] = time.time,
        in_office: Callable[[], Sequence[SharedCounters | None]] | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        url_scheme: Callable[[], str] = lambda: "http",
        following: FollowReader | None = None,
    ) -> None:
        self._all_counters = all_counters
        self._in_office = in_office or (lambda: all_counters)
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._url_scheme = url_scheme
        self._following = following

    def health(self) -> Health:
        """Return the service's health: its worst worker's."""
        unready: list[str] = []
        passing: list[str] = []
        for index, counters in enumerate(self._in_office()):
            for is_unready, why in self._ailments_of(counters):
                (unready if is_unready else passing).append(f"worker {index}: {why}")
        if self._following is None:
            return Health(unready, passing)
        closed, trouble = self._following.troubles()
        # The reason of a worker's fault; alone, workers will notice in seconds.
        return Health([*unready, *closed], passing, ill=trouble)

    def unlike(self, catalog_version: int) -> list[str]:
        """
        Return why workers answer a bid otherwise now than the store and this catalog would.

        The near caches are left out: they differ for a lease at most, and writers wait for that
        (`segments.store.cache_lease`).
        """
        health = self.health()
        versions = enumerate(self._of_each(Gauge.CATALOG_VERSION))
        others = [
            f"worker {index}: catalog {version}"
            for index, version in versions
            if version not in (0, catalog_version)
        ]
        return [*health.unready, *health.passing, *health.ill, *others]

    def _ailments_of(self, counters: SharedCounters | None) -> Iterator[tuple[bool, str]]:
        """Yield a worker's troubles, and whether each makes it unready."""
        if counters is None:
            yield True, "not running"
            return
        cells, now_s = counters.cells, self._wall_s()
        if self._monotonic_s() - cells[Gauge.BEAT_AT_S] > _BEAT_MAX_AGE_S:
            yield True, "not running" if not cells[Gauge.PID] else "does not respond"
            return
        if cells[Gauge.IS_STOPPING]:
            yield True, "stopping"
        if cells[Gauge.IS_DRAINING]:
            yield True, "draining"
        never_enriched, link = not cells[Gauge.HAS_ENRICHED], cells[Gauge.LINK]
        if link != layout.LINK_UP:
            fault = layout.FAULTS[link - layout.LINK_UP - 1] if link else "not connected yet"
            is_unready = never_enriched or self._following is not None
            yield is_unready, f"store {fault}{_refused(counters, Said.STORE_REFUSAL)}"
        elif unasked := counters.said(Said.UNASKED_NODES):
            yield False, f"store: {unasked}"
        elif cells[Gauge.IS_UNFILLED]:
            yield False, "the store came back empty, whole or in part: run `rtb-segments rebuild`"
        seen_at_s = cells[Gauge.CATALOG_SEEN_AT_S]
        if not seen_at_s:
            yield True, f"catalog not read yet{_refused(counters, Said.CATALOG_REFUSAL)}"
        elif not cells[Gauge.IS_CATALOG_CONFIRMED]:
            is_behind_others = link == layout.LINK_UP
            refused = _refused(counters, Said.CATALOG_REFUSAL)
            why = f"catalog not confirmed for {now_s - seen_at_s:.0f} s{refused}"
            yield never_enriched or is_behind_others, why

    def collect(self) -> Iterator[Metric]:
        """Render all counts; part of prometheus-client."""
        yield self._requests()
        refused = {each: self._sum(layout.REFUSED + n) for n, each in enumerate(Refusal)}
        yield from timings(self._sum, refused, self._url_scheme())
        ids = CounterMetricFamily("rtb_ids", "Ids looked up.", labels=("kind", "result"))
        for i, kind in enumerate(layout.KINDS):
            ids.add_metric((kind, "unknown"), self._sum(layout.IDS + 2 * i))
            ids.add_metric((kind, "found"), self._sum(layout.IDS + 2 * i + 1))
        yield ids
        yield CounterMetricFamily(
            "rtb_store_round_trips",
            "Writes to the store, each with the ids of one turn of the event loop.",
            value=sum(map(self._sum, _cells_of(layout.BATCH, layout.BATCH_EDGES))),
        )
        yield self._histogram(
            "rtb_store_batch_ids",
            "Ids asked for in one write to the store.",
            layout.BATCH_EDGES,
            layout.BATCH,
            self._sum(layout.BATCH_SUM),
        )
        yield self._table(
            "rtb_store_faults",
            "Lookups that the store did not answer.",
            "fault",
            layout.FAULTS,
            layout.STORE_FAULTS,
        )
        yield self._table(
            "rtb_faults", "Bugs of ours; most cost a request its segments.", "where",
            tuple(Where), layout.BUGS,
        )  # fmt: skip
        yield self._table(
            "rtb_refused", "Requests that HTTP refused.", "error", tuple(Refusal), layout.REFUSED
        )
        yield self._table(
            "rtb_seen_ids", "Ids to remember as seen, each once a second of a worker.", "result",
            tuple(SeenResult), layout.SEEN,
        )  # fmt: skip
        yield from self._cache()
        yield from self._gauges()
        pids = {"supervisor": os.getpid(), **self._workers()}
        status = None if self._following is None else self._following.status()
        if status is not None:
            yield from followed(status, self._wall_s(), self._monotonic_s())
            pids["follower"] = status.pid
        yield build_info()
        yield from processes(pids)

    def _workers(self) -> dict[str, int]:
        return {f"worker-{i}": pid for i, pid in enumerate(self._of_each(Gauge.PID))}

    def _cache(self) -> Iterator[Metric]:
        yield self._table(
            "rtb_cache_events", "Ids asked of the near cache and entries of it, by what became"
            " of them.", "event", tuple(CacheEvent), layout.CACHE,
        )  # fmt: skip
        yield _gauge("rtb_cache_entries", "Kept now.", self._sum(Gauge.CACHE_ENTRIES))
        yield _gauge("rtb_cache_bytes", "What they take.", self._sum(Gauge.CACHE_BYTES))

    def _gauges(self) -> Iterator[Metric]:
        yield _gauge(
            "rtb_in_flight", "Requests that wait for the store.", self._sum(Gauge.IN_FLIGHT)
        )
        yield _gauge("rtb_connections", "Open connections.", self._sum(Gauge.CONNECTIONS))
        links = self._of_each(Gauge.LINK)
        is_up = all(link == layout.LINK_UP for link in links)
        yield _gauge("rtb_store_up", "1 if every worker can ask the store.", is_up)
        yield self._refused()
        health = self.health()
        in_office = self._in_office()
        ready = sum(
            not any(is_unready for is_unready, _ in self._ailments_of(counters))
            for counters in in_office
        )
        yield _gauge("rtb_workers", "Processes that answer bids.", len(in_office))
        yield _gauge("rtb_workers_ready", "Those that can answer.", ready)
        yield _gauge("rtb_ready", "1 if the service can answer.", health.is_ready)
        yield _gauge("rtb_enriching", "1 if every worker can enrich.", health.is_enriching)
        version = min(self._of_each(Gauge.CATALOG_VERSION))
        yield _gauge("rtb_catalog_version", "Of the worker furthest behind.", version)
        seen_at_s = min(self._of_each(Gauge.CATALOG_SEEN_AT_S))
        yield _gauge(
            "rtb_catalog_seen_timestamp_seconds",
            "When the store last confirmed the catalog, to the worker furthest behind.",
            seen_at_s,
        )

    def _refused(self) -> Metric:
        refused = Counter(
            refusal
            for counters in self._in_office()
            if counters is not None
            for refusal in {counters.said(said) for said in _REFUSALS} - {""}
        )
        family = GaugeMetricFamily(
            "rtb_store_refused",
            "Workers to whom the store now answers a command with an error.",
            labels=("code", "command"),
        )
        for refusal, workers in refused.items():
            code, _, command = refusal.partition(" to ")
            family.add_metric((code, command), workers)
        return family

    def _requests(self) -> Metric:
        counts: dict[tuple[str, Outcome, Reason], int] = {
            # Usual series begin at zero, so that the first event is a change.
            ("", outcome, Reason.NONE): 0
            for outcome in Outcome
            if outcome is not Outcome.MALFORMED
        }
        for counters in self._all_counters:
            for ending, count in counters.requests().items():
                counts[ending] = counts.get(ending, 0) + count
        family = CounterMetricFamily(
            "rtb_requests", "Bid requests answered.", labels=("recipient", "outcome", "reason")
        )
        for labels, count in counts.items():
            family.add_metric(labels, count)
        return family

    def _table(
        self, name: str, text: str, label: str, values: Sequence[str], first_cell: int
    ) -> Metric:
        family = CounterMetricFamily(name, text, labels=(label,))
        for i, value in enumerate(values):
            family.add_metric((value,), self._sum(first_cell + i))
        return family

    def _histogram(
        self, name: str, text: str, edges: Sequence[float], first_cell: int, total: float
    ) -> Metric:
        count = 0
        buckets = []
        for edge, cell in zip((*edges, "+Inf"), _cells_of(first_cell, edges), strict=True):
            count += self._sum(cell)
            buckets.append((str(edge), count))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)

    def _of_each(self, gauge: Gauge) -> list[int]:
        """Return a gauge of each worker, zero without a process."""
        return [0 if counters is None else counters.cells[gauge] for counters in self._in_office()]

    def _sum(self, cell: int) -> int:
        return sum(counters.cells[cell] for counters in self._all_counters)


def application(board: Board) -> web.Application:
    """Make the admin application."""
    registry = CollectorRegistry()
    registry.register(board)

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(request: web.Request) -> web.Response:
        return board.health().answer(request)

    async def prometheus(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )

    app = web.Application()
    for path in ("/health/live", "/heartbeat"):
        app.router.add_get(path, live)
    for path in ("/health/ready", "/healthz", "/healthcheck"):
        app.router.add_get(path, ready)
    app.router.add_get("/metrics", prometheus)
    return app


def _cells_of(first: int, edges: Sequence[float]) -> range:
    return range(first, first + len(edges) + 1)


_REFUSALS: Final = (Said.STORE_REFUSAL, Said.CATALOG_REFUSAL)


def _refused(counters: SharedCounters, said: Said) -> str:
    refusal = counters.said(said)
    return f": {refusal}" if refusal else ""


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
