"""Google's SegmentRequests, as its reference and its examples have them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rtb.catalog import Catalog
from rtb.openrtb.curation import read_segment_request, segment_response
from rtb.outcome import MalformedRequest, Outcome, Reason
from rtb.pipeline import Pipeline, Question, Result
from segments.model.account import AccountKind
from segments.model.catalog import AccountEntry, AudienceEntry
from segments.model.identity import id_of_email_hash
from segments.model.record import OptOut, OptOutAction
from tests.rtb.consent.strings import tc_string
from tests.rtb.requests import (
    BANK,
    CATALOG,
    DIGEST,
    NOW_S,
    OPTIONS,
    SHOP,
    packed,
    snapshot,
)

PIPELINE = Pipeline(replace(OPTIONS, strip_paths=()), read_segment_request)

USER = {"eids": [{"source": "liveintent.com", "uids": [{"id": DIGEST}]}]}


def asked(body: bytes, catalog: Catalog = CATALOG, pipeline: Pipeline = PIPELINE) -> Any:
    recipient = catalog.recipient(None)
    assert recipient is not None
    return pipeline.ask(body, recipient, catalog)


def answered(body: bytes, found: bytes, catalog: Catalog = CATALOG) -> Result:
    question = asked(body, catalog)
    assert isinstance(question, Question)
    return PIPELINE.answer(question, [found, *[None] * (len(question.ids) - 1)], NOW_S)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps({"user": USER}).encode(), id="the example, without a name"),
        pytest.param(json.dumps({"segment_request_id": "r", "user": USER}).encode(), id="named"),
        pytest.param(json.dumps({"user": USER}, indent=1).encode(), id="with blanks"),
        pytest.param(b" \n" + json.dumps({"user": USER}).encode(), id="blanks before"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps({"user": USER}).encode(), id="a mark before"),
        pytest.param(json.dumps({"id": "1", "user": USER}).encode(), id="with an id"),
        pytest.param(json.dumps({"tmax": 900, "user": USER}).encode(), id="with another time"),
        pytest.param(json.dumps({"user": USER, "tmax": None}).encode() + b"\r\n", id="and none"),
        pytest.param(
            json.dumps(
                {"segment_request_id": "r", "site": {"page": "https://a.example"}, "user": USER}
            ).encode(),
            id="both kinds of signals",
        ),
    ],
)
def test_eids_are_looked_up_within_the_time_that_google_waits(body: bytes) -> None:
    question = asked(body)

    assert question.ids == (id_of_email_hash(DIGEST),)
    assert question.tmax_ms == 50


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="empty"),
        pytest.param(b"{ }", id="empty, with a blank"),
        pytest.param(
            b'{"site":{"page":"https://dfpgpt.appspot.com/smd/"},'
            b'"pub":{"id":"pub-1234567890987654"},'
            b'"device":{"geo":{"country":"US","metro":"501"}}}',
            id="contextual signals, as in the example",
        ),
        pytest.param(b'{"user":{"eids":[]}}', id="no eids"),
    ],
)
def test_request_without_a_person_is_no_identity(body: bytes) -> None:
    assert asked(body).outcome is Outcome.NO_IDENTITY


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", Reason.NOT_JSON, id="nothing"),
        pytest.param(b"[]", Reason.NOT_A_BID_REQUEST, id="an array"),
        pytest.param(b'{"user":', Reason.NOT_JSON, id="cut off"),
        pytest.param(b'{"user":{}}}', Reason.NOT_JSON, id="a bracket more"),
        pytest.param(b'{,"user":{}}', Reason.NOT_JSON, id="a comma more"),
        pytest.param(b'{"user":"\xff"}', Reason.NOT_UTF8, id="not UTF-8"),
        pytest.param(b'{"user":{"id":"1"}', Reason.NOT_JSON, id="cut off behind a brace"),
        pytest.param(b'{"user":{},}', Reason.NOT_JSON, id="a comma too many"),
        pytest.param(b'{"user":"}', Reason.NOT_JSON, id="a text without an end"),
    ],
)
def test_what_is_no_segment_request_is_malformed(body: bytes, reason: Reason) -> None:
    with pytest.raises(MalformedRequest) as malformed:
        asked(body)

    assert malformed.value.reason is reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"consent": tc_string()}, None, id="consent"),
        pytest.param({"consent": tc_string(purposes=[1])}, Reason.TCF_NO_PURPOSE, id="none"),
        pytest.param({}, None, id="not said, as the operator decides"),
    ],
)
def test_consent_is_a_tc_string(fields: dict[str, str], reason: Reason | None) -> None:
    result = asked(json.dumps({"user": {**USER, **fields}}).encode())

    assert (result.reason if isinstance(result, Result) else None) is reason


@pytest.mark.parametrize("field", [b'"regs":{"coppa":1}', b'"device":{"lmt":1}'])
def test_signal_that_google_never_sends_counts_where_it_comes(field: bytes) -> None:
    body = b'{"user":%b,%b}' % (json.dumps(USER).encode(), field)

    assert asked(body).outcome is Outcome.NO_CONSENT


def test_unsaid_may_be_under_gdpr() -> None:
    options = replace(OPTIONS, consent=replace(OPTIONS.consent, gdpr_when_unsaid=True))

    result = asked(
        json.dumps({"user": USER}).encode(), pipeline=Pipeline(options, read_segment_request)
    )

    assert (result.outcome, result.reason) == (Outcome.NO_CONSENT, Reason.TCF_MISSING)


def test_answer_has_each_segment_once() -> None:
    audiences = (
        AudienceEntry(1, 1, 1, "test-data-segment-1", is_active=True),
        AudienceEntry(2, 1, 1, 'test "data" segment', is_active=True),
        AudienceEntry(11, 2, 2, "test-data-segment-1", is_active=True),
    )
    catalog = Catalog.from_snapshot(snapshot(audiences=audiences))

    result = answered(json.dumps({"user": USER}).encode(), packed(1, 2, 11), catalog)

    assert segment_response(result.additions) == (
        b'{"segment":[{"segment_id":"test-data-segment-1"},'
        b'{"segment_id":"test \\"data\\" segment"}]}'
    )


def test_nothing_to_say_is_nothing() -> None:
    assert segment_response(None) == b""


@pytest.mark.parametrize(
    ("publisher", "outcome"), [("pub-1", Outcome.OPTED_OUT), ("pub-2", Outcome.ENRICHED)]
)
def test_publisher_that_was_told_no_shows_nothing_on_its_inventory(
    publisher: str, outcome: Outcome
) -> None:
    news = AccountEntry(3, AccountKind.PUBLISHER, "pub-1", "News", is_active=True)
    catalog = Catalog.from_snapshot(snapshot(accounts=(SHOP, BANK, news)))
    told = packed(1, opt_outs=(OptOut(news.id, OptOutAction.RESTRICT),))
    body = json.dumps({"user": USER, "pub": {"id": publisher}}).encode()

    assert answered(body, told, catalog).outcome is outcome
