"""
OpenTelemetry: our Prometheus metrics as OTLP, and a tracer whose spans leave by OTLP.

The rules are of "Prometheus and OpenMetrics Compatibility"
(opentelemetry.io/docs/specs/otel/compatibility): a counter is a cumulative, monotonic sum without
the `_total` of its name, a histogram's buckets are not cumulative.

Headers, certificates and compression of the exporter, and more attributes of the resource, come
from OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`).

Imported only by senders: `segments.runtime.telemetry`.
"""
# ruff: noqa: E402 - of OpenTelemetry nothing can be imported before it is shown

import asyncio
import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from segments.runtime import unwanted_imports
from segments.runtime.telemetry import Telemetry

unwanted_imports.show()

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_log = logging.getLogger(__name__)

_NAME = "rtb-segments"
_SENT_WITHIN_S = 2.0
_NS_PER_S = 1_000_000_000
_UNITS = {"seconds": "s", "bytes": "By"}

Labels = tuple[tuple[str, str], ...]


def resource_of(telemetry: Telemetry) -> Resource:
    """Return this process's description, with the operator's attributes."""
    ours: dict[str, str | int] = {
        "service.name": _NAME,
        "service.version": version(_NAME),
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        "process.pid": os.getpid(),
        "rtb_segments.process": telemetry.process,
    }
    return Resource(ours).merge(OTELResourceDetector().detect())


class MetricSender:
    """
    Sends metrics to a collector.

    A collector's absence costs a log line at its start and end; cumulative metrics need no backlog.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        _be_quiet()
        self._every_s = telemetry.every_s
        self._resource = resource_of(telemetry)
        self._started_ns = time.time_ns()
        self._is_away = False
        self._exporter = OTLPMetricExporter(
            endpoint=f"{telemetry.url.rstrip('/')}/v1/metrics", timeout=_SENT_WITHIN_S
        )

    async def run(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Send the metrics now and after each pause, until cancelled."""
        while True:
            await self.send(collect())
            await asyncio.sleep(self._every_s)

    async def send(self, families: Iterable[Metric]) -> None:
        """Send some metrics as of now."""
        metrics = list(otlp_of(families, self._started_ns, time.time_ns()))
        scope = InstrumentationScope(_NAME, version(_NAME))
        data = export.MetricsData(
            [export.ResourceMetrics(self._resource, [export.ScopeMetrics(scope, metrics, "")], "")]
        )
        result = await asyncio.to_thread(self._exporter.export, data)
        is_away = result is not export.MetricExportResult.SUCCESS
        if is_away and not self._is_away:
            _log.warning("the collector of SEGMENTS_OTLP_URL does not take what is sent")
        elif self._is_away and not is_away:
            _log.info("the collector of SEGMENTS_OTLP_URL is back")
        self._is_away = is_away

    def close(self) -> None:
        """Release the connection."""
        self._exporter.shutdown()


def tracer_provider(telemetry: Telemetry) -> TracerProvider:
    """
    Return a provider of tracers, whose spans a thread sends in batches; shut it down at the end.

    A request with a `traceparent` that says not traced (flag 00) leaves no span.
    """
    _be_quiet()
    provider = TracerProvider(
        sampler=ParentBased(ALWAYS_ON),
        resource=resource_of(telemetry),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(
        endpoint=f"{telemetry.url.rstrip('/')}/v1/traces", timeout=_SENT_WITHIN_S
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _be_quiet() -> None:
    """Keep the library's lines out of the log: one a try, with the collector's URL."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


def otlp_of(families: Iterable[Metric], started_ns: int, now_ns: int) -> Iterator[export.Metric]:
    """
    Yield metrics of Prometheus as OpenTelemetry's.

    Args:
        families: As a registry collects them.
        started_ns: Unix time at which the counters were zero.
        now_ns: Unix time of these values.
    """
    for family in families:
        unit = _UNITS.get(family.name.rpartition("_")[2], "")
        if family.type == "histogram":
            points: export.DataT = export.Histogram(
                list(_histograms(family.samples, started_ns, now_ns)),
                export.AggregationTemporality.CUMULATIVE,
            )
        elif family.type == "counter":
            points = export.Sum(
                list(_numbers(family.samples, started_ns, now_ns)),
                export.AggregationTemporality.CUMULATIVE,
                is_monotonic=True,
            )
        else:
            points = export.Gauge(list(_numbers(family.samples, 0, now_ns)))
        if points.data_points:
            yield export.Metric(family.name, family.documentation, unit, points)


def _numbers(
    samples: Iterable[Sample], started_ns: int, now_ns: int
) -> Iterator[export.NumberDataPoint]:
    for sample in samples:
        if not sample.name.endswith("_created"):
            # A float, because a collector of ours may yield `True`.
            yield export.NumberDataPoint(sample.labels, started_ns, now_ns, float(sample.value))


def _histograms(
    samples: Iterable[Sample], started_ns: int, now_ns: int
) -> Iterator[export.HistogramDataPoint]:
    labels_to_buckets: defaultdict[Labels, list[tuple[float, int]]] = defaultdict(list)
    labels_to_sum: dict[Labels, float] = {}
    for sample in samples:
        labels = _without_edge(sample.labels)
        if sample.name.endswith("_bucket"):
            labels_to_buckets[labels].append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_sum"):
            labels_to_sum[labels] = sample.value
    for labels, buckets in labels_to_buckets.items():
        edges, at_most = zip(*sorted(buckets), strict=True)
        counts = [now - before for before, now in zip((0, *at_most), at_most, strict=False)]
        yield export.HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=started_ns,
            time_unix_nano=now_ns,
            count=at_most[-1],
            sum=labels_to_sum.get(labels, 0.0),
            bucket_counts=counts,
            explicit_bounds=edges[:-1],  # the last is infinity
            min=None,  # type: ignore[arg-type] # not known, and optional in OTLP
            max=None,  # type: ignore[arg-type]
        )


def _without_edge(labels: Mapping[str, str]) -> Labels:
    return tuple((name, value) for name, value in labels.items() if name != "le")
