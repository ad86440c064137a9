"""The answer forms through a real socket."""

import json

import pytest

from rtb.outcome import OutcomeHeader
from rtb.server.answer_forms import FORMS, Asked
from tests.edge.client import connected, request
from tests.edge.small_store import MEMBER, OPTED_OUT, SHOP_DATA, STRANGER, bid_request, serving
from tests.engines import Engine


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/openrtb2/enrich/dsp-a", id="a recipient"),
        pytest.param("/openrtb2/enrich/dsp%2Da", id="quoted"),
        pytest.param("/openrtb2/enrich/dsp-a?x=1", id="a query"),
        pytest.param("http://proxy.example/openrtb2/enrich/dsp-a", id="by a proxy"),
    ],
)
async def test_recipient_is_served_and_counted_by_name(valkey: Engine, path: str) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(bid_request(), path)

        assert answer.outcome == "enriched"
        assert [recipient for recipient, _, _ in service.counters.requests()] == ["dsp-a"]


async def test_patch_says_what_to_add(valkey: Engine) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(bid_request(), "/openrtb2/patch/dsp-a")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json-patch+json"
    assert json.loads(answer.body) == [{"op": "add", "path": "/user/data", "value": [SHOP_DATA]}]


async def test_fragment_has_id_and_user_data_only(valkey: Engine) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(bid_request(), "/openrtb25/dsp-a")

    assert json.loads(answer.body) == {"id": "r1", "user": {"data": [SHOP_DATA]}}


_BY_BODY = [
    path for path, form in FORMS[OutcomeHeader.FULL].items() if form.asked is not Asked.TARGETING
]


@pytest.mark.parametrize("path", _BY_BODY, ids=bytes.decode)
async def test_coarse_header_says_the_same_of_who_said_no_and_of_strangers(
    valkey: Engine, path: bytes
) -> None:
    async with (
        serving(
            valkey.url, outcome_header=OutcomeHeader.COARSE, curation_gdpr_when_unsaid=False
        ) as service,
        connected(service.port) as client,
    ):
        answers = [
            await client.post(bid_request(digest), path.decode() + "/dsp-a")
            for digest in (MEMBER, OPTED_OUT, STRANGER, None)
        ]
        broken = await client.post(b"[]", path.decode() + "/dsp-a")
        counted = {outcome for _, outcome, _ in service.counters.requests()}

    assert [answer.outcome for answer in answers] == ["enriched", "passed", "passed", "passed"]
    assert (broken.status, broken.outcome) == (400, "malformed")
    assert {"enriched", "opted_out", "no_match", "no_identity", "malformed"} == counted


@pytest.mark.parametrize("path", ["/openrtb2/patch/dsp-a", "/openrtb25/dsp-a"])
@pytest.mark.parametrize("digest", [None, STRANGER, OPTED_OUT], ids=["no id", "unknown", "no"])
async def test_nothing_to_add_is_204_and_the_next_answer_follows(
    valkey: Engine, path: str, digest: str | None
) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(request(bid_request(digest), path) + request(bid_request()))
        nothing, enriched = await client.answer(), await client.answer()

    assert (nothing.status, nothing.body) == (204, b"")
    assert "content-length" not in nothing.headers
    assert enriched.outcome == "enriched"


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        pytest.param("application/json", 200, id="JSON"),
        pytest.param("Application/JSON; charset=utf-8", 200, id="JSON in other words"),
        pytest.param("text/plain", 400, id="another"),
    ],
)
async def test_fragment_wants_json(valkey: Engine, media_type: str, status: int) -> None:
    data = request(bid_request(), "/openrtb25/dsp-a").replace(
        b"application/json", media_type.encode()
    )

    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(data)
        answer = await client.answer()

    assert answer.status == status
    assert answer.headers.get("x-enrich-error") == (None if status == 200 else "content_type")
