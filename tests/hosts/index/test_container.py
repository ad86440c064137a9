"""
Index Exchange: kb.indexexchange.com/rti_providers/guidelines_containers.htm

"These endpoints should be exposed on a port configured using the SERVER_PORT environment variable."
Bids come as gRPC: tests of the ARTF door.
"""

import gzip
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.edge.client import ENRICH, connected
from tests.edge.small_store import bid_request, caught_up, eventually
from tests.hosts.hosted import Hosted, Store, hosted

pytestmark = pytest.mark.asyncio(loop_scope="module")

_DURATION = "http_server_request_duration_seconds"
_NOWHERE = "redis://127.0.0.1:1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(store: Store) -> AsyncIterator[Hosted]:
    async with hosted("SERVER_PORT", store.engine.url, "/healthcheck") as service:
        yield service


async def test_container_lives_before_it_can_do_anything_and_is_not_ready() -> None:
    """
    "the orchestration layers will use to check if the container is healthy or needs to be
    restarted": a store that is away is healed by no restart.
    """
    async with hosted("SERVER_PORT", _NOWHERE, "/heartbeat") as service:
        assert await service.is_answering("/healthcheck", 503)
        assert await service.is_answering("/heartbeat", 200)


async def test_container_that_has_lost_a_shared_store_stays_ready(
    service: Hosted, store: Store
) -> None:
    store.engine.stop()
    try:
        await eventually(lambda: service.is_answering("/healthcheck?strict", 503))
        statuses = [(await service.get(path))[0] for path in ("/healthcheck", "/heartbeat")]
    finally:
        store.engine.start()
        await caught_up(store.client)

    assert statuses == [200, 200]


async def test_metrics_have_the_histogram_with_the_boundaries_asked_for(service: Hosted) -> None:
    """
    "histogram boundaries should be [0.0025, 0.005, 0.01, 0.025, 0.05] measured in seconds. [...]
    All other attributes used to tag this metric should follow the OpenTelemetry specification."
    """
    before = _counts(await service.metrics())
    async with connected(service.port) as client:
        for _ in range(3):
            assert (await client.post(bid_request())).status == 200
        assert (await client.post(b"{", ENRICH)).status == 400
        assert (await client.post(b"{}", "/nowhere")).status == 404
    metrics = await service.metrics()

    family = metrics[_DURATION]
    enriched = {
        "http_request_method": "POST",
        "http_response_status_code": "200",
        "http_route": "/openrtb2/enrich",
        "url_scheme": "http",
        "network_protocol_version": "1.1",
    }
    samples = [each for each in family.samples if enriched.items() <= each.labels.items()]
    more = {status: n - before[status] for status, n in _counts(metrics).items()}
    assert family.type == "histogram"
    assert [float(each.labels["le"]) for each in samples if "le" in each.labels] == [
        0.0025, 0.005, 0.01, 0.025, 0.05, float("inf"),
    ]  # fmt: skip
    assert more == {"200": 3, "204": 0, "400": 1, "404": 1}
    assert metrics["rtb_request_seconds"].type == "histogram"


def _counts(metrics: Mapping[str, Metric]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for each in metrics[_DURATION].samples:
        if each.name == f"{_DURATION}_count":
            counts[each.labels["http_response_status_code"]] += int(each.value)
    return counts


async def test_each_path_is_answered_to_get_and_head_and_to_nothing_else(service: Hosted) -> None:
    paths = ("/heartbeat", "/healthcheck", "/metrics")

    for path in paths:
        assert (await service.get(path, "HEAD")) == (200, "")
        async with service.session.post(service.url + path, data=b"") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert [await _bytes_of_head(service, path) for path in paths] == [b""] * 3
    text = await _gzipped(service)

    assert "rtb_requests" in {family.name for family in text_string_to_metric_families(text)}


async def _bytes_of_head(service: Hosted, path: str) -> bytes:
    """What follows the head of an answer to HEAD, on a connection that is kept."""
    async with connected(service.port) as client:
        client.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return (await client.reader.read()).partition(b"\r\n\r\n")[2]


async def _gzipped(service: Hosted) -> str:
    """Scrape as Prometheus does, which takes gzip."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(service.url + "/metrics", headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert answer.headers["Content-Encoding"] == "gzip"
        return gzip.decompress(await answer.read()).decode()
