"""
Prometheus histograms of bids' durations and of their waits for the store.

Each duration is counted once, in fine buckets. Index Exchange's budgets are a second view of the
same cells: OpenTelemetry's `http.server.request.duration` by its semantic conventions for HTTP
(opentelemetry.io/docs/specs/semconv/http/http-metrics), with that host's five edges. Calls of
gRPC have a third, `rpc.server.duration` by the conventions for RPC, in milliseconds.

A request refused by HTTP is answered in the turn that read it: its duration is zero. Method and
path, the client's words, are not counted: the method is `_OTHER`, without a route. A connection
beyond the limit is no request.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import HistogramMetricFamily, Metric

from rtb.server.metrics import layout
from rtb.server.metrics.layout import Refusal
from segments.store.cache_lease import MS_PER_S

_SECONDS = "rtb_request_seconds", "Time from a request's last byte to its answer."
_OF_HOSTS = (
    "http_server_request_duration_seconds",
    "The same in OpenTelemetry's form, by route and status; refused requests included.",
)
_WAIT = "rtb_store_wait_seconds", "Time from a question to the store to its answer or the deadline."
_OF_CALLS = (
    "rpc_server_duration_milliseconds",
    "The same of gRPC calls in OpenTelemetry's form, by status.",
)
_CALL_LABELS = ("rpc_system", "rpc_service", "rpc_method", "rpc_grpc_status_code")
_OK, _INVALID_ARGUMENT = 0, 3
_CALL_STATUSES = {200: _OK, 204: _OK, 400: _INVALID_ARGUMENT}
"""The status of gRPC for each of `layout.STATUSES`. Counting knows no HTTP, so not its names."""
_LABELS = (
    "http_request_method",
    "http_response_status_code",
    "http_route",
    "url_scheme",
    "network_protocol_version",
)


class Timing(NamedTuple):
    """A histogram of seconds: the count in each bucket of `SECONDS_EDGES`, and the sum."""

    counts: Sequence[int]
    total_s: float

    def buckets(
        self, edges: Sequence[float], *, units_a_second: int = 1
    ) -> list[tuple[str, float]]:
        """Return cumulative counts for these edges, labelled in the unit."""
        at_most = {edge: sum(self.counts[: n + 1]) for n, edge in enumerate(layout.SECONDS_EDGES)}
        labelled = ((_text(edge * units_a_second), at_most[edge]) for edge in edges)
        return [*labelled, ("+Inf", sum(self.counts))]


def timings(
    sum_of: Callable[[int], int], refused: Mapping[Refusal, int], url_scheme: str
) -> Iterator[Metric]:
    """
    Yield the histograms of seconds.

    Args:
        sum_of: Sums a cell over all processes.
        refused: The requests that HTTP refused, by refusal.
        url_scheme: http or https.
    """
    series = {
        labels: _timing(sum_of, layout.SECONDS + n * layout.TIMING_CELLS)
        for n, labels in enumerate(layout.SERIES)
    }
    yield _family(_SECONDS, _sum(series.values()))
    yield _of_hosts(series, refused, url_scheme)
    yield _of_calls(series)
    yield _family(_WAIT, _timing(sum_of, layout.WAIT))


def _of_hosts(
    series: Mapping[tuple[str, str, int], Timing], refused: Mapping[Refusal, int], url_scheme: str
) -> Metric:
    family = HistogramMetricFamily(*_OF_HOSTS, labels=_LABELS)

    def add(method: str, status: int, route: str, protocol: str, timing: Timing) -> None:
        labels = (method, str(status), route, url_scheme, protocol)
        family.add_metric(labels, timing.buckets(layout.HOST_SECONDS_EDGES), timing.total_s)

    usual = layout.PROTOCOLS[0]
    for (protocol, route, status), timing in series.items():
        # Usual series start at zero, so that the first event is a change.
        is_usual = protocol == usual and route != layout.CALLS
        if any(timing.counts) or (is_usual and status in layout.WELL):
            add(layout.ROUTES[route], status, route, protocol, timing)
    by_status: Counter[int] = Counter()
    for refusal, count in refused.items():
        status_or_none = layout.REFUSAL_STATUS.get(refusal)
        if status_or_none is not None and refusal is not Refusal.TOO_MANY_CONNECTIONS:
            by_status[status_or_none] += count
    for status, count in by_status.items():
        if count:
            at_once = Timing([count, *[0] * len(layout.SECONDS_EDGES)], 0.0)
            add("_OTHER", status, "", usual, at_once)
    return family


def _of_calls(series: Mapping[tuple[str, str, int], Timing]) -> Metric:
    family = HistogramMetricFamily(*_OF_CALLS, labels=_CALL_LABELS)
    by_status: dict[int, list[Timing]] = {}
    for (_, route, status), timing in series.items():
        # Series of answered calls begin at zero, so that the first event is a change.
        if route == layout.CALLS and (any(timing.counts) or status in layout.WELL):
            by_status.setdefault(_CALL_STATUSES[status], []).append(timing)
    service, method = layout.CALLS.strip("/").split("/")
    for grpc_status, timings in by_status.items():
        timing = _sum(timings)
        family.add_metric(
            ("grpc", service, method, str(grpc_status)),
            timing.buckets(layout.HOST_SECONDS_EDGES, units_a_second=MS_PER_S),
            timing.total_s * MS_PER_S,
        )
    return family


def _family(name_and_text: tuple[str, str], timing: Timing) -> Metric:
    buckets = timing.buckets(layout.SECONDS_EDGES)
    return HistogramMetricFamily(*name_and_text, buckets=buckets, sum_value=timing.total_s)


def _timing(sum_of: Callable[[int], int], first_cell: int) -> Timing:
    *counts, total_ns = (sum_of(first_cell + cell) for cell in range(layout.TIMING_CELLS))
    return Timing(counts, total_ns / layout.NS_PER_S)


def _sum(each: Iterable[Timing]) -> Timing:
    all_counts, totals_s = zip(*each, strict=True)
    return Timing([sum(counts) for counts in zip(*all_counts, strict=True)], sum(totals_s))


def _text(edge: float) -> str:
    """Write an edge without an exponent, as is usual."""
    return f"{edge:.5f}".rstrip("0").removesuffix(".")
