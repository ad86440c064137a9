"""
Google's Real-time Curation, over sockets: a SegmentRequest in, a SegmentResponse out.

The host's own text: developers.google.com/authorized-buyers/curation/realtime-curation, its pages
`reference`, `parse-request` ("Use gzip encoding", "SegmentRequest examples") and `build-response`
("Respond if no data segments apply", "SegmentResponse example").
"""

import gzip
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from segments.store.servers.connection import connect
from tests.edge.client import connected
from tests.edge.processes import listening
from tests.edge.small_store import (
    MEMBER,
    OPTED_OUT,
    STRANGER,
    eventually,
    furnish,
    publish,
    publish_recipients,
    serving,
)
from tests.edge.test_access import ENTRIES
from tests.engines import Engine
from tests.rtb.consent.strings import tc_string

PATH = "/curation/dsp-a"
SEGMENTS = {"segment": [{"segment_id": "101"}, {"segment_id": "102"}]}
CONTEXTUAL = {
    "site": {"page": "https://dfpgpt.appspot.com/smd/"},
    "pub": {"id": "pub-1234567890987654"},
    "device": {"geo": {"country": "US", "metro": "501"}},
}
"""The example of contextual signals, without the bracket that it has too many."""


def segment_request(digest: str = MEMBER, **user: Any) -> dict[str, Any]:
    """Make one of secure signals, as the example has them."""
    eids = [{"source": "liveintent.com", "uids": [{"id": digest}]}]
    return {"user": {"eids": eids, **user}}


def folded(request: dict[str, Any]) -> bytes:
    return gzip.compress(json.dumps(request).encode())


async def test_started_service_answers_as_the_pages_say(valkey: Engine) -> None:
    async with connect(valkey.url) as redis:
        await furnish(redis)
    headers = {"Content_Encoding": "gzip", "Accept_Encoding": "gzip"}

    async with (
        listening(redis_url=valkey.url, curation_gdpr_when_unsaid="false") as listener,
        connected(listener.port) as client,
    ):
        await eventually(listener.is_ready)
        some = await client.post(folded(segment_request()), PATH, **headers)
        none = await client.post(folded(segment_request(STRANGER)), PATH, **headers)
        contextual = await client.post(folded(CONTEXTUAL), PATH, **headers)

    assert (some.status, some.headers["content-type"]) == (200, "application/json")
    assert json.loads(some.body) == SEGMENTS
    assert [(answer.status, answer.body) for answer in (none, contextual)] == [(204, b"")] * 2


async def test_long_answer_is_gzip(valkey: Engine) -> None:
    segment_ids = ("test-data-segment-1", "x" * 1_000)
    async with (
        serving(valkey.url, curation_gdpr_when_unsaid=False) as service,
        connect(valkey.url) as redis,
        connected(service.port) as client,
    ):
        await publish(redis, 2, segment_ids=segment_ids)
        await eventually(lambda: service.worker.bids.catalog.version == 2)
        answer = await client.post(
            folded(segment_request()), PATH, Content_Encoding="gzip", Accept_Encoding="gzip"
        )

    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(answer.plain) == {"segment": [{"segment_id": id_} for id_ in segment_ids]}


async def test_body_unfolds_no_further_than_the_limit(valkey: Engine) -> None:
    bomb = gzip.compress(b" " * 1_000_000)

    async with (
        serving(valkey.url, curation_gdpr_when_unsaid=False) as service,
        connected(service.port) as client,
    ):
        too_large = await client.post(bomb, PATH, Content_Encoding="gzip")
        no_gzip = await client.post(b"{}", PATH, Content_Encoding="gzip")

    assert (too_large.status, too_large.error) == (413, "body_too_large")
    assert (no_gzip.status, no_gzip.error) == (400, "bad_encoding")


@pytest.mark.parametrize(
    ("when_unsaid", "due"), [(False, ["enriched", "enriched"]), (True, ["no_consent", "enriched"])]
)
async def test_operator_decides_what_it_means_to_say_nothing_of_consent(
    valkey: Engine, when_unsaid: bool, due: list[str]
) -> None:
    async with (
        serving(valkey.url, curation_gdpr_when_unsaid=when_unsaid) as service,
        connected(service.port) as client,
    ):
        bodies = (segment_request(), segment_request(consent=tc_string()))
        answers = [await client.post(folded(b), PATH, Content_Encoding="gzip") for b in bodies]

    assert [answer.outcome for answer in answers] == due


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(segment_request(OPTED_OUT), id="who said no to us"),
        pytest.param(segment_request(consent=tc_string(purposes=[1])), id="who did not consent"),
        pytest.param({**segment_request(), "regs": {"coppa": 1}}, id="a child"),
    ],
)
async def test_nobody_is_shown_who_may_not_be(valkey: Engine, request_: dict[str, Any]) -> None:
    async with (
        serving(valkey.url, curation_gdpr_when_unsaid=False) as service,
        connected(service.port) as client,
    ):
        answer = await client.post(folded(request_), PATH, Content_Encoding="gzip")

    assert (answer.status, answer.body) == (204, b"")


async def test_path_is_not_there_unless_the_operator_has_decided(valkey: Engine) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(json.dumps(segment_request()).encode(), PATH)

    assert (answer.status, answer.error) == (404, "unknown_path")


async def test_recipient_with_a_token_asks_for_it_here_too(valkey: Engine) -> None:
    body = json.dumps(segment_request()).encode()
    async with (
        Redis.from_url(valkey.url) as redis,
        serving(valkey.url, curation_gdpr_when_unsaid=False, debug_header=True) as service,
        connected(service.port) as client,
    ):
        await publish_recipients(redis, 2, *ENTRIES)
        await eventually(lambda: service.worker.bids.catalog.version == 2)
        none = await client.post(body, PATH)
        ours = await client.post(body, PATH, Authorization="Bearer ours-new")
        refused = await client.post(
            json.dumps({**segment_request(), "regs": {"coppa": 1}}).encode(),
            PATH,
            Authorization="Bearer ours-new",
            X_Enrich_Debug="1",
        )

    assert (none.status, none.error) == (401, "no_token")
    assert json.loads(ours.body) == SEGMENTS
    assert (refused.status, refused.headers["x-enrich-reason"]) == (204, "coppa")
