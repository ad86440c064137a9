"""
Spans of a control plane process: a request of a REST door or of the console, a job of a loader.

No span has a URL, a header, an address or a body: these may name a person.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from segments.runtime.telemetry import Telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Note = Callable[[str, Mapping[str, str | int]], None]
"""Takes a span's name and attributes, once they are known."""


class Spans:
    """
    Makes the spans of a process.

    Args:
        telemetry: Where they are sent; `None`: nowhere, and no library is imported.
    """

    def __init__(self, telemetry: Telemetry | None = None) -> None:
        self._provider: TracerProvider | None = None
        if telemetry is not None:
            from segments.runtime.otlp import tracer_provider  # noqa: PLC0415 - see telemetry.py

            self._provider = tracer_provider(telemetry)

    @contextmanager
    def around(self, name: str, headers: Mapping[str, str] | None = None) -> Iterator[Note]:
        """
        Make a span; an exception leaves its type in it, and no text.

        Args:
            name: Of the span, unless noted otherwise.
            headers: Of a request, with its `traceparent` (W3C).
        """
        if self._provider is None:
            yield _note_nothing
            return
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        context = None
        if headers is not None:
            # The propagator's names are in lower case.
            carrier = {key: headers[key] for key in _OF_W3C if key in headers}
            context = TraceContextTextMapPropagator().extract(carrier)
        tracer = self._provider.get_tracer("rtb-segments")
        with tracer.start_as_current_span(
            name,
            context=context,
            kind=SpanKind.INTERNAL if headers is None else SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            def note(name: str, attributes: Mapping[str, str | int]) -> None:
                span.update_name(name)
                span.set_attributes(attributes)

            try:
                yield note
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    @property
    def are_made(self) -> bool:
        """Whether spans are made."""
        return self._provider is not None

    async def aclose(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            await asyncio.to_thread(self._provider.shutdown)


NO_SPANS: Final = Spans()


@asynccontextmanager
async def sending_spans(telemetry: Telemetry | None) -> AsyncIterator[Spans]:
    """Make spans while the context lasts, and send the rest at its end."""
    spans = Spans(telemetry)
    try:
        yield spans
    finally:
        await spans.aclose()


_OF_W3C = ("traceparent", "tracestate")


def _note_nothing(_: str, __: Mapping[str, str | int]) -> None:
    """There is no span."""
