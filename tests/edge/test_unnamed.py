"""Paths without a recipient: served to the one that the operator names, or to none."""

import pytest
from redis.asyncio import Redis

from rtb.outcome import OutcomeHeader
from rtb.server.answer_forms import FORMS, Asked
from segments.model.catalog import RecipientEntry
from tests.edge.client import ENRICH, connected
from tests.edge.small_store import (
    SHOP_DATA,
    added_data,
    bid_request,
    eventually,
    publish,
    publish_recipients,
    serving,
)
from tests.engines import Engine

UNNAMED = "/openrtb2/enrich"


_BY_BODY = [
    path for path, form in FORMS[OutcomeHeader.FULL].items() if form.asked is not Asked.TARGETING
]


@pytest.mark.parametrize("path", _BY_BODY, ids=bytes.decode)
async def test_nobody_is_served_without_a_name_by_default(valkey: Engine, path: bytes) -> None:
    async with (
        serving(valkey.url, curation_gdpr_when_unsaid=False) as service,
        connected(service.port) as client,
    ):
        answers = [
            await client.post(bid_request(), path.decode() + end) for end in ("", "/", "?a=1")
        ]
        named = await client.post(bid_request(), path.decode() + "/dsp-a")

    assert {(a.status, a.error, a.body) for a in answers} == {(404, "unknown_recipient", b"")}
    assert named.outcome == "enriched"


async def test_trusted_caller_is_served_where_the_operator_allows_it(valkey: Engine) -> None:
    async with (
        serving(valkey.url, allow_unnamed_recipient=True) as service,
        connected(service.port) as client,
    ):
        answer = await client.post(bid_request(), UNNAMED)
        counted = [recipient for recipient, _, _ in service.counters.requests()]

    assert added_data(answer.body) == [SHOP_DATA]
    assert counted == [""]


@pytest.mark.parametrize("is_allowed", [False, True], ids=["alone", "both settings"])
@pytest.mark.parametrize(
    ("recipient", "outcome"),
    [("dsp-a", "enriched"), ("dsp-without-grants", "no_match"), ("dsp-held-out", "held_out")],
)
async def test_default_recipient_is_who_asks_without_a_name_and_sees_no_more_than_by_its_own(
    valkey: Engine, recipient: str, outcome: str, is_allowed: bool
) -> None:
    async with (
        serving(
            valkey.url, default_recipient=recipient, allow_unnamed_recipient=is_allowed
        ) as service,
        connected(service.port) as client,
    ):
        unnamed = await client.post(bid_request(), UNNAMED)
        named = await client.post(bid_request(), f"{UNNAMED}/{recipient}")
        counted = [counted for counted, _, _ in service.counters.requests()]

    assert unnamed.outcome == outcome
    assert unnamed.body == named.body
    assert counted == [recipient]


@pytest.mark.parametrize("is_allowed", [False, True], ids=["alone", "both settings"])
async def test_default_recipient_that_is_not_known_is_404_and_one_error_until_it_is(
    valkey: Engine, caplog: pytest.LogCaptureFixture, is_allowed: bool
) -> None:
    def errors() -> list[str]:
        return [record.message for record in caplog.records if record.levelname == "ERROR"]

    redis = Redis.from_url(valkey.url)
    async with (
        redis,
        serving(
            valkey.url, default_recipient="dsp-b", allow_unnamed_recipient=is_allowed
        ) as service,
        connected(service.port) as client,
    ):
        unknown = [await client.post(bid_request(), UNNAMED) for _ in range(3)]
        await publish(redis, 2)
        await eventually(lambda: service.worker.bids.catalog.version == 2)
        said = errors()
        await publish_recipients(
            redis, 3, RecipientEntry(1, "dsp-b", is_active=True, partner_ids=(1,))
        )
        await eventually(lambda: service.worker.bids.catalog.version == 3)
        known = await client.post(bid_request(), UNNAMED)
        await publish_recipients(
            redis, 4, RecipientEntry(1, "dsp-b", is_active=False, partner_ids=(1,))
        )
        await eventually(lambda: service.worker.bids.catalog.version == 4)
        gone = await client.post(bid_request(), UNNAMED)

    assert {(a.status, a.error) for a in unknown} == {(404, "unknown_recipient")}
    assert known.outcome == "enriched"
    assert (gone.status, gone.error) == (404, "unknown_recipient")
    assert len(said) == 1
    assert "RTB_DEFAULT_RECIPIENT" in said[0]
    assert "dsp-b" in said[0]
    assert len(errors()) == 2, "once more, when it is no longer known"


async def test_known_recipients_are_served_whoever_the_default_is(valkey: Engine) -> None:
    async with (
        serving(valkey.url, default_recipient="dsp-without-grants") as service,
        connected(service.port) as client,
    ):
        assert (await client.post(bid_request(), ENRICH)).outcome == "enriched"
