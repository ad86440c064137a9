"""What a collector of OpenTelemetry is sent by the whole service, and that no person is in it."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from loadtest.ports import free_ports
from tests.e2e.service import Service, bid_request, processes_of, sha256
from tests.edge.small_store import eventually
from tests.otlp import Collector, attributes_of, collector

EMAIL = "alice@example.com"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def taken() -> Iterator[Collector]:
    with collector() as taken:
        yield taken


@pytest.fixture
async def service(tmp_path: Path, taken: Collector) -> AsyncIterator[Service]:
    [api_port] = free_ports(1)
    service = Service(
        tmp_path,
        SEGMENTS_OTLP_URL=taken.url,
        SEGMENTS_OTLP_EVERY_S="0.2",
        OTEL_BSP_SCHEDULE_DELAY="100",
        OTEL_SERVICE_NAME="ours",
        RTB_TRACE_EVERY="1",
        SEGMENTS_API_PORT=str(api_port),
    )
    yield service
    for pid in processes_of(service):
        os.kill(pid, signal.SIGKILL)


async def asked(url: str, *, flags: str = "01") -> int:
    """Ask with a trace context."""
    headers = {"TraceParent": f"00-{TRACE}-{PARENT}-{flags}", "tracestate": "them=1"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=bid_request(EMAIL)) as answer,
    ):
        return answer.status


async def test_collector_is_sent_metrics_and_traces_and_no_person(
    service: Service, taken: Collector
) -> None:
    enrich = f"http://127.0.0.1:{service.port}/openrtb2/enrich/dsp-a"
    async with service.running():
        await service.command("account", "add", "--kind", "advertiser", "--id", "p1", "--name", "P")
        await service.command("recipient", "add", "dsp-a", "--partner", "p1")
        await service.load([EMAIL], [("123", "add")], "p1")
        await service.until("enriched", bid_request(EMAIL), "dsp-a")
        assert await asked(enrich, flags="00") == 200
        assert await asked(enrich) == 200
        api_port = service.environment["SEGMENTS_API_PORT"]
        assert await asked(f"http://127.0.0.1:{api_port}/login") == 400

        def is_here() -> bool:
            ours = [span for span in taken.spans() if span.trace_id.hex() == TRACE]
            bids = taken.metrics("listener").get("rtb_requests")
            return len(ours) >= 6 and bids is not None and len(bids.sum.data_points) > 0

        await eventually(is_here)

    # The bid and its stages, below the sender's span; of a bid that they did not trace, none.
    [bid] = [
        span
        for span in taken.spans("worker-0")
        if span.name == "bid" and span.parent_span_id.hex() == PARENT
    ]
    stages = [span for span in taken.spans("worker-0") if span.parent_span_id == bid.span_id]
    assert bid.trace_state == "them=1"
    assert attributes_of(bid) == {
        "rtb.recipient": "dsp-a",
        "rtb.outcome": "enriched",
        "rtb.reason": "",
    }
    stages.sort(key=lambda span: int(span.start_time_unix_nano))
    assert [span.name for span in stages] == ["decode", "consent", "lookup", "inject"]
    assert all(
        bid.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        for span in stages
    )
    assert max(span.end_time_unix_nano for span in stages) <= bid.end_time_unix_nano

    # A request of a REST door.
    [request] = [span for span in taken.spans("api") if span.trace_id.hex() == TRACE]
    assert request.parent_span_id.hex() == PARENT
    assert attributes_of(request)["http.response.status_code"] == 400

    # The metrics of Prometheus, of every process, under their names.
    listener = taken.metrics("listener")
    enriched = sum(
        point.as_double
        for point in listener["rtb_requests"].sum.data_points
        if attributes_of(point)["outcome"] == "enriched"
    )
    assert listener["rtb_requests"].sum.is_monotonic
    assert enriched >= 3
    [seconds] = listener["rtb_request_seconds"].histogram.data_points
    assert listener["rtb_request_seconds"].unit == "s"
    assert sum(seconds.bucket_counts) == seconds.count >= 3
    assert len(seconds.bucket_counts) == len(seconds.explicit_bounds) + 1
    assert "segments_jobs" in " ".join(taken.metrics("loader"))
    assert taken.metrics("api")
    assert taken.metrics("sftp")

    everything = b"".join(taken.raw)
    hash_ = sha256(EMAIL)
    for secret in (EMAIL.encode(), hash_.encode(), bytes.fromhex(hash_)[:16]):
        assert secret not in everything


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    """Neither by a worker, nor by any process of the control plane."""
    script = (
        "import sys, rtb.__main__, rtb.server.worker, segments.cli.ingest, segments.cli.sftp,"
        " segments.cli.publish, segments.processes.rest_api, segments.processes.up\n"
        "names = [name for name, module in sys.modules.items() if module is not None]\n"
        "print(*[name for name in names if 'opentelemetry' in name or 'traced_bids' in name])"
    )

    found = subprocess.check_output([sys.executable, "-c", script], text=True)

    assert found.split() == []
