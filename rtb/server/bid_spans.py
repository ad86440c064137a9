"""Bids as spans of OpenTelemetry; only a worker that traces imports this."""

import time
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rtb.server.traced_bids import Times

_NS_PER_S = 1_000_000_000
_OF_CALL = {"rpc.system": "grpc"}


class BidSpans:
    """
    Makes the spans of a traced bid: one for the bid, and one for each stage in it.

    Args:
        tracer: Receives the spans.
        wall_s: Unix time.
        monotonic_s: The clock of `Times`.
    """

    def __init__(
        self,
        tracer: Tracer,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracer = tracer
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._propagator = TraceContextTextMapPropagator()

    def __call__(self, times: Times) -> None:
        """Make the spans of a bid that has just ended; see `Times`."""
        boot_s = self._wall_s() - self._monotonic_s()

        def ns(monotonic_s: float) -> int:
            return int((boot_s + monotonic_s) * _NS_PER_S)

        span = self._tracer.start_span(
            "bid",
            context=self._parent_of(times),
            kind=SpanKind.SERVER,
            start_time=ns(times.began_s),
            attributes={
                "rtb.recipient": times.recipient,
                "rtb.outcome": str(times.outcome),
                "rtb.reason": str(times.reason),
                **(_OF_CALL if times.is_call else {}),
            },
        )
        if span.is_recording():
            inside = set_span_in_context(span)
            for name, began_s, ended_s in stages_of(times):
                stage = self._tracer.start_span(name, context=inside, start_time=ns(began_s))
                stage.end(ns(ended_s))
        span.end(ns(times.ended_s))

    def _parent_of(self, times: Times) -> Context | None:
        """Return the sender's context (W3C Trace Context); `None`: none, or unreadable."""
        if not times.traceparent:
            return None
        carrier = {
            "traceparent": times.traceparent.decode("latin-1"),
            "tracestate": times.tracestate.decode("latin-1"),
        }
        return self._propagator.extract(carrier)


def stages_of(times: Times) -> list[tuple[str, float, float]]:
    """Return the stages that a bid reached: name, begin and end."""
    stages = []
    if times.asking_s:
        stages.append(("decode", times.asking_s, times.decoded_s or times.ended_s))
    if times.decoded_s:
        stages.append(("consent", times.decoded_s, times.consented_s or times.ended_s))
    if times.asked_s:
        stages.append(("lookup", times.asked_s, times.found_s or times.ended_s))
    if times.concluded_s:
        stages.append(("inject", times.concluded_s, times.ended_s))
    return stages
