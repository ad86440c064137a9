"""
OpenX: github.com/openx/openx-enrichment-service-template, pkg/server/grpc.go and proto/ of commit
e94a35c6a4a6d43256980652e89870f6ab015399; the gRPC half.

Its messages are the IAB's; it sends a projection of the request, with the ids that it authorised in
`user.ext.eids`, and `applicable_intents`.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from loadtest.artf.messages import rtb_request
from tests.artf.host import HEALTH, SERVICES, hosting
from tests.edge.small_store import MEMBER, OPTED_OUT, eventually
from tests.hosts.hosted import Hosted, Store, hosted

pytestmark = pytest.mark.asyncio(loop_scope="module")

_OF_HOST = {
    "LOG_LEVEL": "info",
    "GCP_REGION": "us-east1",
    "RTB_DEFAULT_RECIPIENT": "dsp-a",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(store: Store) -> AsyncIterator[Hosted]:
    async with hosted("PORT", store.engine.url, "/healthz", _OF_HOST) as service:
        await eventually(lambda: service.is_answering("/healthcheck?strict"))
        yield service


def _projection(digest: str, **members: Any) -> bytes:
    bid = {
        "id": "req-1",
        "imp": [{"id": "imp1"}],
        "device": {"dnt": 0, "ip": "192.168.2.123", "ua": "Mozilla/5.0"},
        "site": {"id": "1"},
        "user": {"ext": {"eids": [{"source": "liveintent.com", "uids": [{"id": digest}]}]}},
    }
    return rtb_request(bid, id="req-1", tmax=100_000, **members)


async def test_segments_are_one_mutation(service: Hosted) -> None:
    with hosting(service.port) as host:
        call = _projection(MEMBER, applicable_intents=["ACTIVATE_SEGMENTS"])
        some = await asyncio.to_thread(host.call, call, SERVICES)
        none = await asyncio.to_thread(host.get_mutations, _projection(OPTED_OUT))

    assert (some.response.id, some.ids) == ("req-1", [["101", "102"]])
    assert none == []


async def test_other_intents_are_answered_nothing(service: Hosted) -> None:
    with hosting(service.port) as host:
        call = _projection(MEMBER, applicable_intents=["ACTIVATE_DEALS"])

        assert await asyncio.to_thread(host.get_mutations, call) == []


async def test_health_is_told_by_grpc_as_by_its_path(service: Hosted) -> None:
    with hosting(service.port) as host:
        assert (await asyncio.to_thread(host.call, b"", HEALTH)).message == b"\x08\x01"
