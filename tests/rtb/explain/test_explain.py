"""What an explanation says, stage by stage."""

import json

import pytest

from rtb.explain import segments as shown
from rtb.explain.explainer import Contradiction
from segments.model.explained_bid import AnswerForm, State, in_words
from segments.model.record import EVERYONE, OptOut, OptOutAction
from tests.rtb.consent.strings import gpp_string, tc_string, us_section, vendors
from tests.rtb.explain.explaining import LIMITED, explained, findings, stage
from tests.rtb.requests import DIGEST, bid_request, packed

DUID = "df9f30ab37f2--01dwnyss4cpxkzqvr2y8d5hfyt"
OTHER = "b2" * 32


def _eid(source: str, *uids: str) -> dict[str, object]:
    return {"source": source, "uids": [{"id": uid} for uid in uids]}


def test_every_identifier_is_told_by_kind_place_and_rule_never_as_text() -> None:
    body = bid_request(
        {
            "eids": [
                _eid("uidapi.com", "AgAAAAPF"),
                _eid("liveintent.com", "not-a-digest", DIGEST),
                _eid("elsewhere.example", "u1"),
            ],
            "ext": {"hashes": {"email": [OTHER]}, "eids": [_eid("fpid.liveintent.com", DUID)]},
        },
        device={"ifa": "00000000-0000-0000-0000-000000000000"},
    )

    explanation = explained(body, packed(1))

    assert findings(explanation, "Identify") == [
        ("1 · email", "user.ext.hashes.email", "rule 1: user.ext.hashes.email"),
        ("2 · email", "user.eids[1].uids[1]", "rule 3: liveintent.com"),
        ("3 · duid", "user.ext.eids[0].uids[0]", "rule 4: fpid.liveintent.com"),
        ("4 · eid", "user.eids[1].uids[0]", "rule 5: liveintent.com"),
        ("not read", "device.ifa", "device id of zeros only, which is no id"),
        ("not read", "user.eids[0].uids[0]", "uidapi.com: encrypted, different each time"),
        ("not read", "user.eids[2].uids[0]", "no rule reads this source"),
    ]
    assert stage(explanation, "Identify").says == "4 ids to look up, the most trusted first"
    for text in (DIGEST, OTHER, DUID, "not-a-digest", "u1", "AgAAAAPF"):
        assert text not in in_words(explanation)


def test_id_that_signals_forbid_to_read_says_so() -> None:
    user = {"eids": [_eid("fpid.liveintent.com", DUID)]}
    ifa = "0123abcd-0123-0123-0123-0123456789ab"
    explanation = explained(bid_request(user, regs={"coppa": 1}, device={"ifa": ifa, "lmt": 1}))

    why = "the request's own signals forbid reading it"
    assert findings(explanation, "Identify") == [
        ("not read", "device.ifa", why),
        ("not read", "user.eids[0].uids[0]", why),
    ]
    assert (explanation.outcome, stage(explanation, "Consent").state) == (
        "no_identity",
        State.SKIPPED,
    )


def test_hash_of_nothing_is_told_as_such() -> None:
    explanation = explained(bid_request({"eids": [_eid("liveintent.com", "0" * 64)]}))

    assert findings(explanation, "Identify") == [
        (
            "not read",
            "user.eids[0].uids[0]",
            "a hash of nothing, or a placeholder, which is no person's",
        )
    ]


def test_duplicate_members_are_numbered_instead_of_placed() -> None:
    body = bid_request()[:-1] + b',"user":{"eids":[{"source":"a.example","uids":[{"id":"1"}]}]}}'

    places = [where for _, where, _ in findings(explained(body), "Identify")]

    assert places == ["uid 1", "uid 2"]


def test_every_signal_is_told_though_the_first_refusal_ends_the_bid() -> None:
    strings = gpp_string({7: us_section(7, SaleOptOut=1), 8: us_section(8)})
    explanation = explained(
        bid_request(
            regs={"coppa": 1, "gdpr": 1, "us_privacy": "1YYN", "gpp": strings, "gpp_sid": [7]},
            device={"lmt": 0},
        )
    )

    assert (explanation.outcome, explanation.reason) == ("no_consent", "coppa")
    said = {what: says for what, _, says in findings(explanation, "Consent")}
    assert said["coppa"] == "1: coppa"
    assert said["lmt"] == "0: permits"
    assert said["gpc, atts, dnt"] == "not said"
    assert said["us_privacy"] == '"1YYN": us_privacy_opt_out'
    assert said["gdpr"] == "1: a TC string must permit"
    assert said["TC string"] == "not said: tcf_missing"
    assert said["gpp section 7"] == "gpp_opt_out"
    assert said["gpp section 8"] == "permits"
    assert stage(explanation, "Lookup").state is State.SKIPPED


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (tc_string(), "vendor 148 yes; purposes 1 yes, 3 yes, 4 yes: permits"),
        (
            tc_string(purposes=[1, 2]),
            "vendor 148 yes; purposes 1 yes, 3 tcf_no_purpose, 4 tcf_no_purpose: tcf_no_purpose",
        ),
        (
            tc_string(consents=vendors([3])),
            "vendor 148 tcf_no_vendor; purposes 1 yes, 3 yes, 4 yes: tcf_no_vendor",
        ),
        ("CPX", "tcf_unreadable"),
    ],
)
def test_tc_string_is_told_by_vendor_and_purpose(text: str, says: str) -> None:
    user = {"eids": [_eid("liveintent.com", DIGEST)], "consent": text}
    explanation = explained(bid_request(user, regs={"gdpr": 1}), packed(1))

    assert ("TC string", "", says) in findings(explanation, "Consent")
    assert text not in in_words(explanation)


def test_each_audience_says_whether_it_leaves_or_why_not() -> None:
    user = {
        "eids": [_eid("liveintent.com", DIGEST)],
        "data": [{"id": "shop", "segment": [{"id": "101"}]}],
    }
    opt_out = OptOut(2, OptOutAction.RESTRICT)
    found = packed(1, 2, 6, 7, 11, 99, opt_outs=(opt_out,))

    explanation = explained(bid_request(user), found)

    assert (explanation.outcome, explanation.added) == ("enriched", 1)
    assert findings(explanation, "Segments") == [
        ("101 (audience 1)", "shop", "is in the request already"),
        ("102 (audience 2)", "shop", "added"),
        ("106 (audience 6)", "shop", "shown from 2027-01-15 08:01 UTC"),
        ("107 (audience 7)", "shop", "shown until 2027-01-15 08:00 UTC"),
        ("201 (audience 11)", "bank", "suppressed by an opt-out"),
        ("audience 99", "", "not in the catalog for this recipient"),
    ]
    assert stage(explanation, "Segments").says == "1 of 6 audiences added"
    assert findings(explanation, "Opt-outs") == [
        ("RESTRICT", "account 2", "suppresses the segments of 1 owner")
    ]
    assert json.loads("{" + explanation.leaves + "}")["data"][0]["segment"] == [{"id": "102"}]


def test_limit_of_a_partner_is_told() -> None:
    explanation = explained(bid_request(), packed(1, 2, 3), options=LIMITED)

    assert findings(explanation, "Segments")[2] == (
        "103 (audience 3)",
        "shop",
        "beyond the limit of segments of a partner",
    )


@pytest.mark.parametrize(
    ("account_id", "publisher", "outcome"),
    [
        (EVERYONE, "7001", "opted_out"),
        (3, "7001", "opted_out"),
        (3, "7002", "enriched"),
        (2, "7001", "enriched"),
        (77, "7001", "opted_out"),
    ],
)
def test_opt_outs_end_a_bid_by_their_reach(account_id: int, publisher: str, outcome: str) -> None:
    body = bid_request(site={"publisher": {"id": publisher}})
    found = packed(1, 11, opt_outs=(OptOut(account_id, OptOutAction.RESTRICT),))

    explanation = explained(body, found)

    assert explanation.outcome == outcome
    is_end = outcome == "opted_out"
    assert stage(explanation, "Opt-outs").state is (State.STOPPED if is_end else State.NOTED)


def test_person_in_the_hold_out_is_told_and_leaves_with_nothing() -> None:
    explanation = explained(bid_request(), packed(1), recipient="dsp-c")

    assert (explanation.outcome, explanation.leaves) == ("held_out", "")
    assert stage(explanation, "Hold-out").says == "100 % of persons; this person is among them"
    assert findings(explanation, "Segments") == [("101 (audience 1)", "shop", "would be added")]


def test_time_for_the_store_is_told() -> None:
    says = stage(explained(bid_request(tmax=50)), "Decode").says

    assert says.endswith("bytes; tmax 50 ms leaves the store 5.0 ms")


@pytest.mark.parametrize(
    ("body", "name", "reason"),
    [
        (b"{", "Decode", "not_json"),
        (b"[]", "Decode", "not_a_bid_request"),
        (b'{"id":"1","user":{"ext":{"hashes":1}},"user":{}}', "Strip", "unstrippable"),
    ],
)
def test_request_that_is_malformed_says_where(body: bytes, name: str, reason: str) -> None:
    explanation = explained(body)

    assert (explanation.outcome, explanation.reason) == ("malformed", reason)
    assert stage(explanation, name).state is State.STOPPED


@pytest.mark.parametrize("form", AnswerForm)
def test_no_form_returns_what_was_typed(form: AnswerForm) -> None:
    user = {"eids": [_eid("liveintent.com", DIGEST)], "ext": {"hashes": {"email": [OTHER]}}}

    leaves = explained(bid_request(user), packed(1), form=form).leaves

    assert '"101"' in leaves
    assert DIGEST not in leaves
    assert OTHER not in leaves


def test_explanation_that_contradicts_its_verdict_is_not_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if a rule of the bid path were changed, and its words here were not."""
    monkeypatch.setattr(shown, "hidden_because", lambda *_: "not in the catalog")

    with pytest.raises(Contradiction, match="segments"):
        explained(bid_request(), packed(1))
