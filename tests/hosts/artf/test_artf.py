"""
The IAB's Agentic RTB Framework 1.0, over gRPC: calls of a host that hangs up on the first error.

The host's own text: github.com/IABTechLab/agentic-real-time-framework, its
`agenticrtbframework.proto`, `docs/intents/activate-segments.md` and `samples/`.
"""

import asyncio
from typing import Any

from loadtest.artf.messages import rtb_request
from segments.store.servers.connection import connect
from tests.artf.host import DOCUMENT, HEALTH, SERVICES, hosting
from tests.edge.processes import listening
from tests.edge.small_store import MEMBER, OPTED_OUT, STRANGER, eventually, furnish
from tests.engines import Engine

MULTI_IMPRESSION: dict[str, Any] = {
    "id": "auction-multi-123",
    "imp": [
        {"id": "imp-header", "bidfloor": 4.0, "bidfloorcur": "USD"},
        {"id": "imp-sidebar"},
    ],
    "site": {
        "id": "site-news",
        "name": "Daily News Portal",
        "publisher": {"id": "pub-news-001", "name": "Example News Media"},
    },
    "user": {
        "id": "user-news-reader",
        "buyeruid": "buyer-user-12345",
        "data": [{"id": "news-dmp", "segment": [{"id": "seg-news-daily"}, {"id": "101"}]}],
    },
    "device": {"ua": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "ip": "203.0.113.50"},
    "regs": {"coppa": 0, "gdpr": 0, "us_privacy": "1YNN"},
    "at": 1,
    "tmax": 120,
}
"""`samples/multi-impression.json`, without what has no number in loadtest/artf/artf.proto."""


def call_of(digest: str, **members: Any) -> bytes:
    """Make the sample's call of a person, who has a hashed e-mail address in `eids`."""
    eids = [{"source": "liveintent.com", "uids": [{"id": digest}]}]
    bid = {**MULTI_IMPRESSION, "user": {**MULTI_IMPRESSION["user"], "eids": eids}}
    sample = {
        "id": "sample-multi-001",
        "tmax": 120,
        "lifecycle": "LIFECYCLE_PUBLISHER_BID_REQUEST",
        "originator": {"type": 1, "id": "pub-news-001"},
        "applicable_intents": ["ACTIVATE_SEGMENTS", "ACTIVATE_DEALS", "SUPPRESS_DEALS"],
    }
    return rtb_request(bid, **{**sample, **members})


CALLS = [
    (call_of(MEMBER, tmax=100_000), [["101", "102"]]),
    (call_of(OPTED_OUT, tmax=100_000), []),
    (call_of(STRANGER, tmax=100_000), []),
    (call_of(MEMBER, lifecycle="LIFECYCLE_DSP_BID_RESPONSE"), []),
    (call_of(MEMBER, applicable_intents=["ACTIVATE_DEALS"]), []),
    (rtb_request(None, id="r1"), []),
    (b"", []),
]


async def test_host_that_forgives_nothing_is_served_for_as_long_as_it_asks(
    valkey: Engine,
) -> None:
    """Also while the store is away, and under either package that its service stands in."""
    async with connect(valkey.url) as redis:
        await furnish(redis)

    async with listening(redis_url=valkey.url, artf_recipient="dsp-a") as listener:
        with hosting(listener.port) as host:
            await eventually(listener.is_ready)
            served = [
                (await asyncio.to_thread(host.get_mutations, message, path), expected)
                for message, expected in CALLS * 5
                for path in (SERVICES, DOCUMENT)
            ]
            valkey.stop()
            away = [await asyncio.to_thread(host.get_mutations, message) for message, _ in CALLS]
            health = await asyncio.to_thread(host.call, b"", HEALTH)

    assert [found for found, _ in served] == [expected for _, expected in served]
    assert away == [[]] * len(CALLS)
    assert (health.status, health.message) == (0, b"\x08\x01")
    assert host.is_healthy


async def test_answer_has_the_calls_id_and_whose_answer_it_is(valkey: Engine) -> None:
    async with connect(valkey.url) as redis:
        await furnish(redis)

    async with listening(redis_url=valkey.url, artf_recipient="dsp-a") as listener:
        with hosting(listener.port) as host:
            await eventually(listener.is_ready)
            replied = await asyncio.to_thread(host.call, CALLS[0][0])
        counted = await listener.metric(
            'rtb_requests_total{outcome="enriched",reason="",recipient="dsp-a"}'
        )

    assert replied.response.id == "sample-multi-001"
    assert replied.response.metadata.api_version == "1.0"
    assert replied.response.metadata.model_version == "1"
    assert counted == 1
