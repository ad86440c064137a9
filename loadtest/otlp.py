"""A collector in this process: OTLP over HTTP, read by OpenTelemetry's own messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """The exports so far."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        """The answer to the next export."""
        self.raw: list[bytes] = []
        self._traces: list[Any] = []
        self._metrics: list[Any] = []

    def take(self, path: str, body: bytes) -> None:
        """Keep an export."""
        self.raw.append(body)
        if path == "/v1/traces":
            self._traces.append(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            self._metrics.append(ExportMetricsServiceRequest.FromString(body))

    def spans(self, process: str = "") -> list[Any]:
        """The spans of a process, or of all."""
        return [
            span
            for message in self._traces
            for of_resource in message.resource_spans
            if process in ("", attributes_of(of_resource.resource)["rtb_segments.process"])
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def metrics(self, process: str) -> dict[str, Any]:
        """The last state of each metric of a process, by name."""
        return {
            metric.name: metric
            for message in self._metrics
            for of_resource in message.resource_metrics
            if attributes_of(of_resource.resource)["rtb_segments.process"] == process
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
        }


def attributes_of(of: Any) -> dict[str, Any]:
    """Return the attributes of a span, a point or a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector."""
    taken = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if taken.status == 200:
                taken.take(self.path, body)
            self.send_response(taken.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    taken.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
