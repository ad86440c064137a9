"""
OpenX: github.com/openx/openx-enrichment-service-template, SPECIFICATION.md and certification/k6 of
commit e94a35c6a4a6d43256980652e89870f6ab015399; the JSON half, over HTTP/1.1.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.edge.client import connected, request
from tests.edge.small_store import MEMBER
from tests.hosts.hosted import Hosted, Store, hosted

pytestmark = pytest.mark.asyncio(loop_scope="module")

_OF_HOST = {
    "LOG_LEVEL": "info",
    "GCS_INBOX_BUCKET": "inbox",
    "GCP_REGION": "us-east1",
    "GCP_ZONE": "us-east1-b",
    "RTB_DEFAULT_RECIPIENT": "dsp-a",
}

_IMP = [{"id": "imp1", "banner": {}}]


def _projection(**fields: Any) -> dict[str, Any]:
    """The specification's example of a request, of a person who is in two audiences."""
    return {
        "id": "req-1",
        "imp": _IMP,
        "device": {"geo": {"country": "US"}, "dnt": 0, "ua": "Mozilla/5.0"},
        "site": {"page": "https://example.com"},
        "user": {"ext": {"eids": [{"source": "liveintent.com", "uids": [{"id": MEMBER}]}]}},
        **fields,
    }


async def _ask(service: Hosted, body: Any, media_type: str = "application/json") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": media_type}
    async with service.session.post(
        f"{service.url}/openrtb25", data=data, headers=headers
    ) as answer:
        text = await answer.read()
        if answer.status == 200:
            assert answer.content_type == "application/json"
        return answer.status, json.loads(text) if text else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(store: Store) -> AsyncIterator[Hosted]:
    async with hosted("PORT", store.engine.url, "/healthz", _OF_HOST) as service:
        yield service


async def test_service_answers_as_the_specification_says(service: Hosted) -> None:
    enriched = await _ask(service, _projection())
    unknown = await _ask(service, _projection(user={"ext": {"eids": []}}))
    refusals = [
        await _ask(service, _projection(regs=regs))
        for regs in (
            {"ext": {"gdpr": 1}},
            {"ext": {"us_privacy": "1YYN"}},
            {"ext": {"gpp": "DBABBg~1", "gpp_sid": [8]}},
            {"coppa": 1},
        )
    ]
    broken = await _ask(service, b"{")
    untyped = await _ask(service, _projection(), "text/plain")
    health = [await service.get(path) for path in ("/healthz", "/health/ready", "/health/live")]
    metrics = await service.metrics()

    assert enriched[0] == 200
    assert set(enriched[1]) == {"id", "user"}
    assert enriched[1]["id"] == "req-1"
    assert set(enriched[1]["user"]) == {"data"}
    [data] = enriched[1]["user"]["data"]
    assert data["name"]
    assert [segment["id"] for segment in data["segment"]] == ["101", "102"]
    assert unknown == (204, None)
    assert refusals == [(204, None)] * 4
    assert (broken[0], untyped[0]) == (400, 400)
    assert [status for status, _ in health] == [200, 200, 200]
    assert json.loads(health[1][1])["status"] == "ready"
    assert metrics["rtb_requests"].type == "counter"


async def test_log_is_plain_text_and_quotes_no_bid(service: Hosted) -> None:
    """
    "None of the data from inbound BidRequest objects may be included in logs"
    """
    await _ask(service, _projection(site={"page": "https://planted.example"}))
    await _ask(service, b'{"id":"planted')
    log = "".join(service.log)

    assert "INFO" in log
    assert "planted" not in log
    assert MEMBER not in log


async def test_requests_of_the_certification_are_answered(service: Hosted) -> None:
    """
    certification/k6/openrtb.js: 200 or 204 for valid requests; 200, 204 or 400 for others.
    """
    tcf = {"consent": "BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA"}
    valid: list[dict[str, Any]] = [
        {"imp": _IMP},
        {"imp": [{"id": "i", "video": {}}], "device": {"geo": {"country": "US"}}},
        {"imp": _IMP, "regs": {"gdpr": 1}, "user": tcf},
        {"imp": _IMP, "regs": {"us_privacy": "1YNN"}},
        {"imp": _IMP, "regs": {"coppa": 1}},
        {"imp": _IMP, "device": {"w": 1920, "h": 1080, "geo": {"country": "US"}}},
    ]
    invalid: list[dict[str, Any]] = [
        {"imp": [{"banner": {}}]},
        {"id": "r", "imp": [{"id": "i"}]},
        {"id": "r", "imp": _IMP, "device": {"geo": {}}},
    ]

    for_valid = {(await _ask(service, {"id": "r", **each}))[0] for each in valid}
    for_invalid = {(await _ask(service, each))[0] for each in invalid}

    assert for_valid <= {200, 204}
    assert for_invalid <= {200, 204, 400}


async def test_offer_of_h2c_is_declined_and_the_request_is_answered(service: Hosted) -> None:
    """
    "JSON over HTTP/1.1 or H2C": a client may offer to change over with its first request.
    """
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAMAAAB"}

    body = json.dumps(_projection()).encode()

    async with connected(service.port) as client:
        client.send(request(body, "/openrtb25", **offer))
        first = await client.answer()
        second = await client.post(body, "/openrtb25")

    assert (first.status, second.status) == (200, 200)
    assert json.loads(first.body) == json.loads(second.body)
