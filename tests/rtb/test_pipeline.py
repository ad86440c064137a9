import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtb.catalog import Catalog
from rtb.openrtb.inject import inject
from rtb.outcome import MalformedRequest, Outcome, Reason
from rtb.pipeline import Pipeline, Question, Result
from segments.model.catalog import AccountEntry, AudienceEntry, RecipientEntry
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.record import EVERYONE, Membership, OptOut, OptOutAction, Record, day_of, pack
from tests.rtb.requests import (
    BANK,
    BANK_AUDIENCE,
    CATALOG,
    DIGEST,
    NOW_S,
    OPTIONS,
    PIPELINE,
    SHOP,
    SHOP_AUDIENCES,
    answered,
    ask,
    asked,
    bid_request,
    bodies,
    json_values,
    members,
    packed,
    snapshot,
)

OTHER_DIGEST = "b2" * 32


def _eids(*digests: str) -> dict[str, Any]:
    return {"eids": [{"source": "liveintent.com", "uids": [{"id": d} for d in digests]}]}


def _segment_ids(result: Result) -> list[str]:
    assert result.additions is not None
    answer = json.loads(inject(result.body, result.additions))
    return [segment["id"] for data in answer["user"]["data"] for segment in data["segment"]]


def test_known_person_is_shown_one_data_per_partner() -> None:
    result = answered(bid_request(), packed(1, 3, 11))

    assert (result.outcome, result.reason) == (Outcome.ENRICHED, Reason.NONE)
    assert result.additions is not None
    assert json.loads(inject(result.body, result.additions))["user"]["data"] == [
        {"id": "shop", "name": "Shop", "segment": [{"id": "101"}, {"id": "103"}]},
        {
            "id": "bank",
            "name": 'The "Bank"',
            "segment": [{"id": "201"}],
            "ext": {"segtax": 501},
        },
    ]


def test_question_says_what_to_look_up_and_how_long_there_is() -> None:
    question = asked(bid_request(tmax=120))

    assert question.ids == (id_of_email_hash(DIGEST),)
    assert question.kinds == (IdentifierKind.EMAIL,)
    assert question.tmax_ms == 120
    assert question.body is question.request.body


@pytest.mark.parametrize("tmax", [None, "120", True, []])
def test_tmax_that_is_no_number_is_not_said(tmax: Any) -> None:
    assert asked(bid_request(tmax=tmax)).tmax_ms is None


def test_request_without_an_identity_asks_nothing_and_leaves_byte_for_byte() -> None:
    body = b'{"id": "1", "user":{ "yob":1.10e3}}'

    assert ask(body) == Result(body, Outcome.NO_IDENTITY)


def test_refused_request_leaves_byte_for_byte_and_asks_the_store_nothing() -> None:
    body = bid_request(regs={"coppa": 1})

    assert ask(body) == Result(body, Outcome.NO_CONSENT, Reason.COPPA)


def test_too_many_ids_are_refused_rather_than_looked_up_in_part() -> None:
    pipeline = Pipeline(replace(OPTIONS, max_ids=2))
    three = bid_request(_eids(DIGEST, OTHER_DIGEST, "c3" * 32))
    two = bid_request(_eids(DIGEST, OTHER_DIGEST, DIGEST))

    assert ask(three, pipeline=pipeline) == Result(three, Outcome.NO_CONSENT, Reason.TOO_MANY_IDS)
    assert len(asked(two, pipeline=pipeline).ids) == 2


def test_more_uids_than_anybody_has_are_refused_before_they_are_read() -> None:
    """A body has room for tens of thousands, which would take a worker half a second."""
    most, more = bid_request(_eids(*[DIGEST] * 1_024)), bid_request(_eids(*[DIGEST] * 1_025))

    assert len(asked(most).ids) == 1
    assert ask(more) == Result(more, Outcome.NO_CONSENT, Reason.TOO_MANY_IDS)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(None, id="an id never seen"),
        pytest.param(packed(), id="an id without memberships"),
        pytest.param(packed(99), id="an audience that is not in the catalog"),
    ],
)
def test_person_without_a_live_segment_is_no_match(found: bytes | None) -> None:
    body = bid_request()

    assert answered(body, found) == Result(body, Outcome.NO_MATCH)


def test_recipient_is_shown_only_what_is_granted_to_it() -> None:
    catalog = Catalog.from_snapshot(
        snapshot(recipients=(RecipientEntry(1, "dsp", is_active=True, partner_ids=(2,)),))
    )

    result = answered(bid_request(), packed(1, 2, 11), catalog=catalog, recipient="dsp")

    assert _segment_ids(result) == ["201"]


def test_segments_of_all_ids_are_shown_once() -> None:
    question = asked(bid_request(_eids(DIGEST, OTHER_DIGEST)))

    result = PIPELINE.answer(question, [packed(1, 2), packed(2, 3)], NOW_S)

    assert _segment_ids(result) == ["101", "102", "103"]


def test_no_partner_shows_more_than_the_configured_number() -> None:
    pipeline = Pipeline(replace(OPTIONS, max_segments=2))

    result = answered(bid_request(), packed(1, 2, 3, 4, 11), pipeline=pipeline)

    assert _segment_ids(result) == ["101", "102", "201"]


@pytest.mark.parametrize(
    ("now_s", "is_live"),
    [
        pytest.param(NOW_S - 0.001, False, id="just before"),
        pytest.param(NOW_S, True, id="from the second on"),
        pytest.param(NOW_S + 59.999, True, id="just before its end"),
        pytest.param(NOW_S + 60, False, id="at its end"),
    ],
)
def test_activation_window_is_kept_to_the_second(now_s: float, is_live: bool) -> None:
    audience = AudienceEntry(
        1, 1, 1, "101", is_active=True, live_from_s=NOW_S, live_until_s=NOW_S + 60
    )
    catalog = Catalog.from_snapshot(snapshot(audiences=(audience,)))

    result = answered(bid_request(), packed(1), catalog=catalog, now_s=now_s)

    assert result.outcome is (Outcome.ENRICHED if is_live else Outcome.NO_MATCH)


@pytest.mark.parametrize(
    ("days_left", "is_live"),
    [
        pytest.param(1, True, id="tomorrow"),
        pytest.param(0, True, id="today, to its end"),
        pytest.param(-1, False, id="yesterday"),
    ],
)
def test_membership_ends_with_its_expiry_day(days_left: int, is_live: bool) -> None:
    found = pack(Record((), (Membership(1, day_of(NOW_S) + days_left),)))

    result = answered(bid_request(), found)

    assert result.outcome is (Outcome.ENRICHED if is_live else Outcome.NO_MATCH)


@pytest.mark.parametrize("action", list(OptOutAction))
def test_global_opt_out_of_any_id_is_one_of_the_person(action: OptOutAction) -> None:
    body = bid_request(_eids(DIGEST, OTHER_DIGEST))
    opted_out = packed(opt_outs=(OptOut(EVERYONE, action),))

    result = PIPELINE.answer(asked(body), [packed(1), opted_out], NOW_S)

    assert result == Result(body, Outcome.OPTED_OUT)


def test_opt_out_by_an_advertiser_silences_its_own_segments() -> None:
    found = packed(1, 11, opt_outs=(OptOut(SHOP.id, OptOutAction.RESTRICT),))

    assert _segment_ids(answered(bid_request(), found)) == ["201"]


def test_opt_out_that_leaves_nothing_to_show_is_opted_out() -> None:
    """After an ERASURE the memberships are gone, and it was still the person's word."""
    opt_outs = (OptOut(SHOP.id, OptOutAction.ERASURE),)

    assert answered(bid_request(), packed(1, opt_outs=opt_outs)).outcome is Outcome.OPTED_OUT
    assert answered(bid_request(), packed(opt_outs=opt_outs)).outcome is Outcome.OPTED_OUT


def test_opt_out_that_does_not_concern_the_recipient_is_no_match() -> None:
    catalog = Catalog.from_snapshot(
        snapshot(recipients=(RecipientEntry(1, "dsp", is_active=True, partner_ids=(2,)),))
    )
    found = packed(1, opt_outs=(OptOut(SHOP.id, OptOutAction.RESTRICT),))

    result = answered(bid_request(), found, catalog=catalog, recipient="dsp")

    assert result.outcome is Outcome.NO_MATCH


@pytest.mark.parametrize(
    ("fields", "segment_ids"),
    [
        pytest.param({"site": {"publisher": {"id": "daily"}}}, None, id="its own site"),
        pytest.param({"app": {"publisher": {"id": "daily"}}}, None, id="its own app"),
        pytest.param({"site": {"publisher": {"id": "else"}}}, ["201"], id="another's site"),
        pytest.param({}, ["201"], id="inventory that no one names"),
    ],
)
def test_opt_out_by_a_publisher_holds_on_its_inventory_and_for_its_advertisers(
    fields: dict[str, Any], segment_ids: list[str] | None
) -> None:
    publisher = AccountEntry(
        9, "publisher", "daily", "Daily", is_active=True, related_ids=(SHOP.id,)
    )
    catalog = Catalog.from_snapshot(snapshot(accounts=(SHOP, BANK, publisher)))
    found = packed(1, 11, opt_outs=(OptOut(publisher.id, OptOutAction.RESTRICT),))

    result = answered(bid_request(**fields), found, catalog=catalog)

    if segment_ids is None:
        assert result.outcome is Outcome.OPTED_OUT
    else:
        assert _segment_ids(result) == segment_ids


def test_held_out_person_is_left_alone_and_counted_apart() -> None:
    catalog = Catalog.from_snapshot(snapshot(), hold_out=1.0)
    body = bid_request()

    assert answered(body, packed(1), catalog=catalog) == Result(body, Outcome.HELD_OUT)
    assert answered(body, packed(), catalog=catalog).outcome is Outcome.NO_MATCH


def test_hold_out_goes_by_the_first_id_that_is_known() -> None:
    """So that an id which the store has never seen does not move a person in or out."""
    catalog = Catalog.from_snapshot(snapshot(), hold_out=0.5)
    unnamed = catalog.recipient(None)
    assert unnamed is not None

    for number in range(20):
        digest = f"{number:x}".rjust(64, "e")
        question = asked(bid_request(_eids(DIGEST, digest)), catalog=catalog)
        known = id_of_email_hash(digest)
        found = [packed(1) if id_ == known else None for id_ in question.ids]

        result = PIPELINE.answer(question, found, NOW_S)

        assert (result.outcome is Outcome.HELD_OUT) == unnamed.holds_out(known)


def test_record_that_can_not_be_read_is_an_end_for_this_request_only() -> None:
    body = bid_request()

    for damaged in (b"", b"\x10\x01", b"\x20"):
        assert answered(body, damaged) == Result(body, Outcome.STORE_DOWN, Reason.CORRUPT_RECORD)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param([{"id": "shop", "segment": [{"id": "101"}]}], Reason.ALREADY_THERE, id="same"),
        pytest.param({"id": "shop"}, Reason.UNPLACEABLE, id="no array"),
    ],
)
def test_nothing_to_add_or_nowhere_to_add_it_leaves_byte_for_byte(
    data: Any, reason: Reason
) -> None:
    body = bid_request(_eids(DIGEST) | {"data": data})

    assert answered(body, packed(1)) == Result(body, Outcome.NO_MATCH, reason)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        pytest.param({}, Outcome.ENRICHED, id="enriched"),
        pytest.param({"regs": {"coppa": 1}}, Outcome.NO_CONSENT, id="refused"),
    ],
)
def test_input_only_fields_never_leave(fields: dict[str, Any], outcome: Outcome) -> None:
    body = bid_request({"ext": {"hashes": {"email": DIGEST}, "k": 1}}, **fields)
    stripped = bid_request({"ext": {"k": 1}}, **fields)

    result = ask(body)
    if isinstance(result, Question):
        result = PIPELINE.answer(result, [packed(1)], NOW_S)

    assert result.outcome is outcome
    assert json.loads(result.body) == json.loads(stripped)
    assert result.stripped == ("user.ext.hashes",)


@pytest.mark.parametrize("outcome", [Outcome.OUT_OF_TIME, Outcome.STORE_DOWN, Outcome.SHED])
def test_request_that_is_passed_through_is_stripped_all_the_same(outcome: Outcome) -> None:
    question = asked(bid_request({"ext": {"hashes": {"email": DIGEST}}}))

    result = question.passed(outcome)

    assert DIGEST.encode() not in result.body
    assert (result.outcome, result.additions) == (outcome, None)
    assert result.stripped == ("user.ext.hashes",)


def test_strip_that_is_nested_too_deep_is_malformed() -> None:
    """Decoding it once more, deeper in the stack, may go over the edge that it just kept to."""
    reasons = set()
    for depth in range(900, 1_000):
        nested = b"[" * depth + b"]" * depth
        body = b'{"id":"1","user":{"ext":{"hashes":{"email":%b}}}}' % nested
        try:
            ask(body)
        except MalformedRequest as error:
            reasons.add(error.reason)

    assert reasons == {Reason.TOO_DEEP}


def test_question_is_answered_by_the_catalog_that_it_was_asked_by() -> None:
    question = asked(bid_request())
    Catalog.from_snapshot(snapshot(audiences=(BANK_AUDIENCE,)))

    result = PIPELINE.answer(question, [packed(1, 11)], NOW_S)

    assert question.catalog is CATALOG
    assert _segment_ids(result) == ["101", "201"]


@given(bodies)
def test_enriched_request_leaves_byte_for_byte_but_for_user_data(body: bytes) -> None:
    result = answered(body, packed(*(audience.id for audience in SHOP_AUDIENCES)))
    if result.outcome is not Outcome.ENRICHED:
        assert result.body is body
        return

    assert result.additions is not None
    answer, sent = members(inject(result.body, result.additions)), members(body)
    user, sent_user = members(answer.pop("user")), members(sent.pop("user"))
    added, had = user.pop("data"), sent_user.pop("data", b"null")
    assert (answer, user) == (sent, sent_user)
    assert len(json.loads(added)) - len(json.loads(had) or []) in (0, 1)


_records = st.none() | st.binary(max_size=12) | st.just(packed(1, 11))


@given(
    st.one_of(
        st.binary(),
        json_values,
        bodies,
        st.builds(
            lambda user, regs, device: (
                b'{"id":"1","user":%b,"regs":%b,"device":%b}' % (user, regs, device)
            ),
            json_values,
            json_values,
            json_values,
        ),
    ),
    st.lists(_records, min_size=12, max_size=12),
)
def test_nothing_that_is_sent_or_stored_raises_but_malformed_request(
    body: bytes, found: list[bytes | None]
) -> None:
    try:
        result = ask(body)
    except MalformedRequest:
        return
    if isinstance(result, Question):
        result = PIPELINE.answer(result, found[: len(result.ids)], NOW_S)

    if result.additions is not None:
        json.loads(inject(result.body, result.additions))
    assert (result.additions is not None) == (result.outcome is Outcome.ENRICHED)
