"""
Metrics and traces to an OpenTelemetry collector, if one is set; off, nothing is imported.

Only `segments.runtime.otlp` imports the library; it is imported only here and where a span is made,
once `SEGMENTS_OTLP_URL` is set.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from prometheus_client.core import Metric

NOT_INSTALLED = (
    "OpenTelemetry is not installed here: install rtb-segments[otel], or leave this unset"
)


class Telemetry(NamedTuple):
    """Where a process sends its metrics and spans."""

    url: str  # of the collector, without a signal's path
    every_s: float  # between two exports of the metrics
    process: str  # as in its log lines


def is_installed() -> bool:
    """Tell whether the extra `otel` is installed."""
    return find_spec("opentelemetry") is not None and (
        find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    )


@asynccontextmanager
async def metrics_sent(
    telemetry: Telemetry | None, collect: Callable[[], "Iterable[Metric]"]
) -> AsyncIterator[None]:
    """
    Send metrics while the context lasts, and once more at its end.

    Args:
        telemetry: `None` sends nothing.
        collect: Returns the present metrics; called on the event loop.
    """
    if telemetry is None:
        yield
        return
    from segments.runtime.otlp import MetricSender  # noqa: PLC0415 - see the module's docstring

    sender = MetricSender(telemetry)
    sending = asyncio.create_task(sender.run(collect))
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.wait({sending})
        await sender.send(collect())
        await asyncio.to_thread(sender.close)
