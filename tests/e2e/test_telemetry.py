"""What a collector of OpenTelemetry is sent by the whole service, and that no person is in it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from loadtest.artf.messages import rtb_request
from loadtest.otlp import Collector, attributes_of, collector
from loadtest.ports import free_ports
from tests.artf.host import Replied, hosting
from tests.e2e.service import Service, bid_request, processes_of, sha256
from tests.edge.small_store import eventually

EMAIL = "alice@example.com"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def taken() -> Iterator[Collector]:
    with collector() as taken:
        yield taken


@pytest.fixture
async def service(tmp_path: Path, taken: Collector) -> AsyncIterator[Service]:
    api_port, console_port = free_ports(2)
    service = Service(
        tmp_path,
        SEGMENTS_OTLP_URL=taken.url,
        SEGMENTS_OTLP_EVERY_S="0.2",
        OTEL_BSP_SCHEDULE_DELAY="100",
        OTEL_SERVICE_NAME="ours",
        RTB_TRACE_EVERY="1",
        RTB_ARTF_RECIPIENT="dsp-a",
        SEGMENTS_API_PORT=str(api_port),
        SEGMENTS_UP_CONSOLE="yes",
        SEGMENTS_CONSOLE_PORT=str(console_port),
    )
    yield service
    for pid in processes_of(service):
        os.kill(pid, signal.SIGKILL)


async def asked(url: str, *, flags: str = "01") -> int:
    """Ask with a trace context."""
    headers = {"TraceParent": context(flags), "tracestate": "them=1"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=bid_request(EMAIL)) as answer,
    ):
        return answer.status


async def called(port: int, *, flags: str = "01") -> list[list[str]]:
    """Call by gRPC with a trace context."""
    message = rtb_request(bid_request(EMAIL), id="r1", tmax=10_000, lifecycle=1)

    def call() -> Replied:
        with hosting(port) as host:
            return host.call(message, traceparent=context(flags), tracestate="them=1")

    return (await asyncio.to_thread(call)).ids


def context(flags: str) -> str:
    return f"00-{TRACE}-{PARENT}-{flags}"


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
        assert await called(service.port, flags="00") == [["123"]]
        assert await called(service.port) == [["123"]]
        ports = [service.environment[f"SEGMENTS_{door}_PORT"] for door in ("API", "CONSOLE")]
        for port, status in zip(ports, (400, 403), strict=True):
            assert await asked(f"http://127.0.0.1:{port}/login") == status

        def is_here() -> bool:
            ours = [span for span in taken.spans() if span.trace_id.hex() == TRACE]
            bids = taken.metrics("listener").get("rtb_requests")
            return len(ours) >= 12 and bids is not None and len(bids.sum.data_points) > 0

        await eventually(is_here)

    # A bid and its stages, below the sender's span; of a bid that they did not trace, none.
    said = {"rtb.recipient": "dsp-a", "rtb.outcome": "enriched", "rtb.reason": ""}
    in_json, by_call = sorted(
        (
            span
            for span in taken.spans("worker-0")
            if span.name == "bid" and span.parent_span_id.hex() == PARENT
        ),
        key=lambda span: int(span.start_time_unix_nano),
    )
    assert attributes_of(in_json) == said
    assert attributes_of(by_call) == {**said, "rpc.system": "grpc"}
    for bid in (in_json, by_call):
        stages = [span for span in taken.spans("worker-0") if span.parent_span_id == bid.span_id]
        assert bid.trace_state == "them=1"
        stages.sort(key=lambda span: int(span.start_time_unix_nano))
        assert [span.name for span in stages] == ["decode", "consent", "lookup", "inject"]
        assert all(
            bid.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
            for span in stages
        )
        assert max(span.end_time_unix_nano for span in stages) <= bid.end_time_unix_nano

    # A request of a REST door, and one of the console.
    for process, name, status in (
        ("api", "login", 400),
        ("console", "console POST /login", 403),
    ):
        [request] = [span for span in taken.spans(process) if span.trace_id.hex() == TRACE]
        assert request.parent_span_id.hex() == PARENT
        assert name in request.name
        assert attributes_of(request) == {
            "http.request.method": "POST",
            "http.response.status_code": status,
        }

    # The job, by the command that carried it.
    [job] = [span for process in ("load", "loader") for span in taken.spans(process)]
    assert job.name == "job"
    assert attributes_of(job) == {"job.number": 1, "job.state": "done"}

    # The metrics of Prometheus, of every process, under their names.
    listener = taken.metrics("listener")
    enriched = sum(
        point.as_double
        for point in listener["rtb_requests"].sum.data_points
        if attributes_of(point)["outcome"] == "enriched"
    )
    assert listener["rtb_requests"].sum.is_monotonic
    assert enriched >= 5
    [seconds] = listener["rtb_request_seconds"].histogram.data_points
    assert listener["rtb_request_seconds"].unit == "s"
    assert sum(seconds.bucket_counts) == seconds.count >= 5
    assert len(seconds.bucket_counts) == len(seconds.explicit_bounds) + 1
    states = {
        attributes_of(point)["state"]
        for point in taken.metrics("loader")["segments_ledger_jobs"].gauge.data_points
    }
    assert "done" in states
    for process in ("api", "console"):
        assert "segments_opt_outs_waiting" in taken.metrics(process)
        assert taken.metrics(process)["segments_api_requests"].sum.data_points
    assert "segments_sftp_connections" in taken.metrics("sftp")

    everything = b"".join(taken.raw)
    hash_ = sha256(EMAIL)
    for secret in (EMAIL.encode(), hash_.encode(), bytes.fromhex(hash_)[:16]):
        assert secret not in everything


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    """Neither by a worker, nor by any process of the control plane."""
    script = (
        "import sys, rtb.__main__, rtb.server.worker, segments.cli.ingest, segments.cli.sftp,"
        " segments.cli.publish, segments.processes.rest_api, segments.processes.console,"
        " segments.processes.follow, segments.processes.up\n"
        "names = [name for name, module in sys.modules.items() if module is not None]\n"
        "print(*[name for name in names if 'opentelemetry' in name or 'traced_bids' in name])"
    )

    found = subprocess.check_output([sys.executable, "-c", script], text=True)

    assert found.split() == []
