"""Questions of Prebid Server's module for Optable, byte for byte as it makes them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from rtb.catalog import Catalog
from rtb.consent.decision import refusal
from rtb.id_rules import IdRule, with_named_kinds
from rtb.openrtb.decode import Decoder
from rtb.openrtb.inventory import publisher_ids
from rtb.openrtb.request import Request
from rtb.openrtb.targeting import Targeting, is_asked, query_in, recipient_in, targeting_answer
from rtb.outcome import Outcome, Reason
from rtb.pipeline import Pipeline, Question, Result
from segments.model.account import AccountKind
from segments.model.catalog import AccountEntry
from segments.model.identity import (
    IdentifierKind,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
    id_of_phone_hash,
)
from segments.model.record import OptOut, OptOutAction
from tests.rtb.consent.strings import gpp_string, tc_string, us_section
from tests.rtb.requests import BANK, CATALOG, DIGEST, NOW_S, OPTIONS, POLICY, SHOP, packed, snapshot

OTHER_DIGEST = "b2" * 32
IFA = "0b23a5f1-5c4d-4c9a-8a76-2b9f4b8c1d2e"
CONSENTS = tc_string()
REFUSES = tc_string(purposes=[1, 2])
PERMITTING = gpp_string({7: us_section(7), 8: us_section(8)})
CALIFORNIA_SAYS_NO = gpp_string({7: us_section(7), 8: us_section(8, SaleOptOut=1)})

_STRICT = replace(POLICY, gpp_every_section=True)
_read = Targeting({"c": "liveintent.com", "c2": "other.example"})
_DECODER = Decoder()


def read(query: str) -> Request:
    return _read(query.encode(), _DECODER)


def pipeline(**policy: Any) -> Pipeline:
    rules = (*OPTIONS.id_rules, IdRule(IdentifierKind.EID, source="id5-sync.com"))
    options = replace(
        OPTIONS,
        id_rules=with_named_kinds(rules),
        strip_paths=(),
        consent=replace(_STRICT, **policy),
    )
    return Pipeline(options, _read)


PIPELINE = pipeline()


def asked(query: str, pipeline: Pipeline = PIPELINE, catalog: Catalog = CATALOG) -> Any:
    recipient = catalog.recipient(None)
    assert recipient is not None
    return pipeline.ask(query.encode(), recipient, catalog)


def answered(query: str, *found: bytes | None, catalog: Catalog = CATALOG) -> Result:
    question = asked(query, catalog=catalog)
    assert isinstance(question, Question)
    others = [None] * (len(question.ids) - len(found))
    return PIPELINE.answer(question, [*found, *others], NOW_S)


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        pytest.param(b"/v2/targeting", True, id="alone"),
        pytest.param(b"/v2/targeting&id=e%3Ax", True, id="without a question mark"),
        pytest.param(b"/v2/targeting/dsp", False, id="a recipient as of the other forms"),
        pytest.param(b"/v2/targeting2", False, id="another"),
    ],
)
def test_query_may_stand_in_the_path(path: bytes, is_ours: bool) -> None:
    assert is_asked(path) is is_ours


@pytest.mark.parametrize("separator", ["?", "&", "?&"])
def test_query_is_what_stands_behind_the_path(separator: str) -> None:
    url = f"/v2/targeting{separator}t=acme&o=pub-1&id=e%3A{DIGEST}&gdpr=0&osdk=prebid-server"

    query = query_in(url.encode())
    request = read(query.decode())

    assert recipient_in(query) == "acme"
    assert publisher_ids(request) == {"pub-1"}
    assert request.uids == [("optable e", DIGEST, None)]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        pytest.param(b"?t=acme%20inc", "acme inc", id="encoded"),
        pytest.param(b"?t=&id=e%3Ax", None, id="empty"),
        pytest.param(b"?id=e%3Ax", None, id="not said"),
        pytest.param(b"?t=acme&t=acme", "acme", id="twice the same"),
    ],
)
def test_recipient_is_the_tenant(query: bytes, name: str | None) -> None:
    assert recipient_in(query) == name


def test_two_tenants_are_none() -> None:
    with pytest.raises(LookupError):
        recipient_in(b"?t=acme&t=other")


@pytest.mark.parametrize(
    ("ids", "due"),
    [
        pytest.param(f"e%3A{DIGEST}", [id_of_email_hash(DIGEST)], id="e-mail"),
        pytest.param(f"e:{DIGEST}", [id_of_email_hash(DIGEST)], id="not encoded"),
        pytest.param(f"p%3A{DIGEST}", [id_of_phone_hash(DIGEST)], id="phone"),
        *(
            pytest.param(f"{prefix}%3A{IFA}", [id_of_ifa(IFA)], id=f"device id, {prefix}")
            for prefix in "agrsf"
        ),
        pytest.param(f"c%3A{DIGEST}", [id_of_email_hash(DIGEST)], id="a hash under liveintent.com"),
        pytest.param("c%3Aabc+d%2B%3A", [id_of_eid("liveintent.com", "abc d+:")], id="another eid"),
        pytest.param("id5%3AID5*x", [id_of_eid("id5-sync.com", "ID5*x")], id="what a rule reads"),
        pytest.param("utiq%3Ax", [], id="what none reads"),
        pytest.param("c2%3Ax", [], id="nor of a mapped source"),
        pytest.param("c3%3Ax", [], id="not mapped"),
        pytest.param(f"z%3A12345&id=v%3A{DIGEST}&id=i4%3A1&id=i6%3A1", [], id="never"),
        pytest.param(f"{DIGEST}&id=&id=e&id=e%3A&id=%3A&id", [], id="no prefix, or nothing else"),
        pytest.param(
            f"a%3A{IFA}&id=c%3A{OTHER_DIGEST}&id=e%3A{DIGEST}",
            [id_of_email_hash(DIGEST), id_of_email_hash(OTHER_DIGEST), id_of_ifa(IFA)],
            id="the most trusted first",
        ),
    ],
)
def test_prefix_says_what_an_id_is(ids: str, due: list[bytes]) -> None:
    question = asked(f"?t=a&id={ids}")

    assert list(question.ids if isinstance(question, Question) else ()) == due


def test_question_without_an_id_asks_the_store_nothing() -> None:
    """The module calls with addresses of the network alone, in headers."""
    result = asked("&gdpr=0&timeout=20ms&osdk=prebid-server")

    assert result.outcome is Outcome.NO_IDENTITY
    assert targeting_answer(result.additions) == (
        b'{"audience":[],"ortb2":{"user":{"data":[],"eids":[]}}}'
    )


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        pytest.param("", Reason.NONE, id="nothing"),
        pytest.param("&gdpr=0", Reason.NONE, id="0 says nothing"),
        pytest.param("&gdpr=1", Reason.TCF_MISSING, id="1 without a TC string"),
        pytest.param(f"&gdpr_consent={CONSENTS}&gdpr=1", Reason.NONE, id="1, and consent"),
        pytest.param(f"&gdpr_consent={REFUSES}&gdpr=1", Reason.TCF_NO_PURPOSE, id="1, and none"),
        pytest.param(f"&gdpr_consent={REFUSES}&gdpr=0", Reason.TCF_NO_PURPOSE, id="0, and none"),
        pytest.param(f"&gdpr_consent={REFUSES}", Reason.TCF_NO_PURPOSE, id="none alone"),
        pytest.param("&gdpr_consent=&gdpr=0", Reason.NONE, id="an empty one"),
        pytest.param("&gdpr_consent=%FF&gdpr=0", Reason.SIGNAL_UNREADABLE, id="no text"),
        pytest.param("&gdpr=0&gdpr=1", Reason.TCF_MISSING, id="0 and 1"),
        pytest.param("&gdpr=&gdpr_consent=&gpp=&gpp_sid=&coppa", Reason.NONE, id="all empty"),
        pytest.param("&gdpr=true", Reason.SIGNAL_UNREADABLE, id="gdpr true"),
        pytest.param(f"&gpp={PERMITTING}&gpp_sid=Optional[7]", Reason.NONE, id="gpp"),
        pytest.param(f"&gpp={PERMITTING}&gpp_sid=Optional%5B7%5D", Reason.NONE, id="encoded"),
        pytest.param(f"&gpp={PERMITTING}&gpp_sid=7,8", Reason.NONE, id="two sections"),
        pytest.param(f"&gpp={PERMITTING}", Reason.NONE, id="no gpp_sid"),
        pytest.param(f"&gpp={PERMITTING}&gpp_sid=Optional.empty", Reason.NONE, id="an empty one"),
        *(
            pytest.param(f"&gpp={CALIFORNIA_SAYS_NO}{sid}", Reason.GPP_OPT_OUT, id=f"says no{sid}")
            for sid in (
                "", "&gpp_sid=Optional[7]", "&gpp_sid=7", "&gpp_sid=7,8", "&gpp_sid=Optional[8]",
                "&gpp_sid=Optional[-1]", "&gpp_sid=0", "&gpp_sid=",
            )
        ),
        pytest.param(f"&gpp={PERMITTING}&gpp_sid=Optional[9]", Reason.GPP_MISSING, id="not there"),
        pytest.param("&gpp=x&gpp_sid=7", Reason.GPP_UNREADABLE, id="no gpp"),
        pytest.param(f"&gpp={PERMITTING}&gpp_sid=seven", Reason.SIGNAL_UNREADABLE, id="no sid"),
        pytest.param(f"&gpp={PERMITTING}&gpp_sid=[7]", Reason.SIGNAL_UNREADABLE, id="a list"),
        pytest.param("&coppa=1", Reason.COPPA, id="coppa"),
        pytest.param("&coppa=yes", Reason.SIGNAL_UNREADABLE, id="an odd coppa"),
        pytest.param("&us_privacy=1YYN", Reason.US_PRIVACY_OPT_OUT, id="us_privacy"),
        pytest.param("&gpc=1", Reason.GPC, id="gpc"),
        pytest.param("&lmt=1", Reason.LMT, id="lmt"),
    ],
)  # fmt: skip
def test_signals_are_read_as_a_bid_requests_and_stricter_where_they_say_less(
    said: str, reason: Reason
) -> None:
    assert refusal(read(f"?t=a&id=e%3A{DIGEST}{said}"), _STRICT) is reason


def test_operator_says_what_it_means_to_say_nothing_of_gdpr() -> None:
    strict = pipeline(gdpr_when_unsaid=True)

    refused = asked(f"?id=e%3A{DIGEST}&gdpr=0", strict)
    permitted = asked(f"?id=e%3A{DIGEST}&gdpr_consent={CONSENTS}&gdpr=0", strict)

    assert (refused.outcome, refused.reason) == (Outcome.NO_CONSENT, Reason.TCF_MISSING)
    assert isinstance(permitted, Question)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        pytest.param([f"c%3A{n}" for n in range(11)], Reason.TOO_MANY_IDS, id="more than asked"),
        pytest.param(["c%3Ax"] * 1_025, Reason.SIGNAL_UNREADABLE, id="more than anybody has"),
    ],
)
def test_too_many_ids_are_refused(ids: list[str], reason: Reason) -> None:
    result = asked("?t=a" + "".join(f"&id={id_}" for id_ in ids))

    assert (result.outcome, result.reason) == (Outcome.NO_CONSENT, reason)


@pytest.mark.parametrize(
    ("timeout", "tmax_ms"),
    [
        ("timeout=20ms", 20), ("timeout=20", 20), ("timeout=0ms", 0), ("timeout=-1ms", None),
        ("timeout=nullms", None), ("timeout=9999999ms", None), ("", None),
        ("timeout=50ms&timeout=20ms", 20),
    ],
)  # fmt: skip
def test_timeout_is_in_milliseconds(timeout: str, tmax_ms: int | None) -> None:
    assert asked(f"?id=e%3A{DIGEST}&{timeout}").tmax_ms == tmax_ms


def test_answer_is_as_the_module_reads_it() -> None:
    result = answered(f"?id=e%3A{DIGEST}", packed(1, 11))

    assert targeting_answer(result.additions) == (
        b'{"audience":[],"ortb2":{"user":{"data":['
        b'{"id":"shop","name":"Shop","segment":[{"id":"101"}]},'
        b'{"id":"bank","name":"The \\"Bank\\"","segment":[{"id":"201"}],"ext":{"segtax":501}}'
        b'],"eids":[]}}}'
    )


@pytest.mark.parametrize(
    ("origin", "outcome"),
    [
        pytest.param("&o=news", Outcome.OPTED_OUT, id="its own"),
        pytest.param("&o=n%65ws", Outcome.OPTED_OUT, id="encoded"),
        pytest.param("&o=other&o=news", Outcome.OPTED_OUT, id="one of two"),
        pytest.param("&o=other", Outcome.ENRICHED, id="another"),
    ],
)
def test_publisher_that_was_told_no_shows_nothing_on_its_inventory(
    origin: str, outcome: Outcome
) -> None:
    news = AccountEntry(3, AccountKind.PUBLISHER, "news", "News", is_active=True)
    catalog = Catalog.from_snapshot(snapshot(accounts=(SHOP, BANK, news)))
    told = packed(1, opt_outs=(OptOut(news.id, OptOutAction.RESTRICT),))

    result = answered(f"?t=a{origin}&id=e%3A{DIGEST}", told, catalog=catalog)

    assert result.outcome is outcome


def test_other_keys_are_ignored() -> None:
    """https://github.com/prebid/prebid-server-java/pull/4601 adds some."""
    query = (
        f"?t=a&id=e%3A{DIGEST}&hid=e:{OTHER_DIGEST}&gdpr=0&timeout=20ms&osdk=prebid-server"
        "&bundle=com.example.app&ver=1.2&id5_signature=%FF&%FF=1"
    )

    assert asked(query).ids == (id_of_email_hash(DIGEST),)
    assert json.loads(targeting_answer(answered(query, packed(1)).additions))["ortb2"]["user"]
