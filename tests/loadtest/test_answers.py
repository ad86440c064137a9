"""A judge that finds nothing would let every load test pass, so each fault is shown to it."""

from typing import Any

import msgspec
import pytest

from loadtest.answers import Answer, Verdict, judge
from loadtest.population import PARTNERS, SEES_ALL, Population
from loadtest.traffic import BidRequest, Expectation, Traffic, expectation
from rtb.outcome import Outcome, Reason

POPULATION = Population(50_000)
BODY = (
    b'{"id":"1","imp":[{"bidfloor":1.10}],"user":{"id":"u","data":['
    b'{"id":"77","segment":[{"id":"a"}]},{"id":"9001","name":"x","segment":[{"id":"5"}]}]},"at":1}'
)
DUE = Expectation(
    Outcome.ENRICHED, segments={"9001": frozenset({"1"}), "9002": frozenset({"2", "3"})}
)
RIGHT_DATA = (
    b'[{"id":"77","segment":[{"id":"a"}]},{"id":"9001","name":"x","segment":[{"id":"5"},{"id":"1"}]},'
    b'{"id":"9002","name":"loadtest-data.example","segment":[{"id":"3"},{"id":"2"}],"ext":{"segtax":600}}]'
)
RIGHT_BODY = (
    b'{"id":"1","imp":[{"bidfloor":1.10}],"user":{"id":"u","data":' + RIGHT_DATA + b'},"at":1}'
)


def request_of(body: bytes = BODY, *, is_stripped: bool = False) -> BidRequest:
    return BidRequest(12, SEES_ALL, body, (0,), Reason.NONE, is_stripped)


def verdict_of(body: bytes, due: Expectation = DUE, outcome: str = "enriched") -> Verdict:
    return judge(request_of(), due, Answer(200, outcome, body)).verdict


def test_the_answer_that_is_due_is_right() -> None:
    assert verdict_of(RIGHT_BODY) is Verdict.RIGHT


@pytest.mark.parametrize(
    ("was", "became"),
    [
        pytest.param(b"1.10", b"1.1", id="a number is spelled otherwise"),
        pytest.param(b'"at":1', b'"at":"1"', id="a number became text"),
        pytest.param(b'"id":"1","imp"', b'"imp"', id="a field is gone"),
        pytest.param(b'"at":1', b'"at":1,"x":0', id="a field is new"),
        pytest.param(b'{"id":"a"}', b'{"id":"b"}', id="another's segment changed"),
        pytest.param(b'{"id":"77","segment":[{"id":"a"}]},', b"", id="another's Data is gone"),
        pytest.param(b'{"id":"5"},{"id":"1"}', b'{"id":"1"}', id="a segment that came is gone"),
        pytest.param(b',{"id":"1"}', b"", id="a segment due is missing"),
        pytest.param(b'{"id":"3"},', b'{"id":"3"},{"id":"3"},', id="a segment stands twice"),
        pytest.param(b'{"id":"3"},', b'{"id":"3"},{"id":"4"},', id="a segment too many"),
        pytest.param(b'{"id":"3"}', b'{"id":"3","name":"n"}', id="a segment's name is exposed"),
        pytest.param(b'"name":"loadtest-data.example",', b"", id="the partner's name is missing"),
        pytest.param(b',"ext":{"segtax":600}', b"", id="segtax is missing"),
        pytest.param(b'"segtax":600', b'"segtax":4', id="segtax is another"),
    ],
)
def test_a_wrong_body_is_found(was: bytes, became: bytes) -> None:
    assert was in RIGHT_BODY

    assert verdict_of(RIGHT_BODY.replace(was, became, 1)) is Verdict.WRONG


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(500, "enriched", RIGHT_BODY), id="status"),
        pytest.param(Answer(200, "", RIGHT_BODY), id="no outcome"),
        pytest.param(Answer(200, "no_match", BODY), id="outcome"),
        pytest.param(Answer(200, "enriched", BODY), id="nothing added"),
        pytest.param(Answer(200, "enriched", b"{"), id="not JSON"),
        pytest.param(Answer(200, "enriched", RIGHT_BODY.replace(b"1.10", b"NaN")), id="NaN"),
        pytest.param(Answer(200, "out_of_time", RIGHT_BODY), id="late and yet enriched"),
    ],
)
def test_a_wrong_answer_is_found(answer: Answer) -> None:
    judgement = judge(request_of(), DUE, answer)

    assert judgement.verdict is Verdict.WRONG
    assert judgement.why.startswith("request 12: ")


@pytest.mark.parametrize("outcome", ["out_of_time", "store_down", "shed"])
def test_passing_through_for_want_of_time_or_store_is_late_not_wrong(outcome: str) -> None:
    assert verdict_of(BODY, outcome=outcome) is Verdict.LATE


def test_what_is_not_enriched_must_be_the_same_bytes() -> None:
    due = Expectation(Outcome.NO_MATCH)

    assert verdict_of(BODY, due, "no_match") is Verdict.RIGHT
    assert verdict_of(BODY.replace(b",", b", "), due, "no_match") is Verdict.WRONG


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        pytest.param(b'{"id": "1","user":{"ext":{"x":1}}}', Verdict.RIGHT, id="stripped"),
        pytest.param(b'{"id":"1","user":{"ext":{"hashes":{},"x":1}}}', Verdict.WRONG, id="left in"),
        pytest.param(b'{"id":"1","user":{"ext":{}}}', Verdict.WRONG, id="too much stripped"),
    ],
)
def test_hashes_must_not_leave_and_nothing_else_may_go_with_them(
    body: bytes, verdict: Verdict
) -> None:
    came = b'{"id":"1","user":{"ext":{"hashes":{},"x":1}}}'
    request = request_of(came, is_stripped=True)

    judgement = judge(request, Expectation(Outcome.NO_CONSENT), Answer(200, "no_consent", body))

    assert judgement.verdict is verdict


def enriched(request: BidRequest, due: Expectation) -> bytes:
    """Put in what is due, and nothing else into any other hands."""
    fields = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
    user = msgspec.json.decode(fields.get("user", b"{}"), type=dict[str, msgspec.Raw])
    data = msgspec.json.decode(user.get("data", b"[]"), type=list[dict[str, Any]])
    raw = msgspec.json.decode(user.get("data", b"[]"), type=list[msgspec.Raw])
    for partner in PARTNERS:
        segments = [{"id": id_} for id_ in due.segments.get(partner.public_id, ())]
        ext = {} if partner.segtax is None else {"ext": {"segtax": partner.segtax}}
        at = next(
            (
                n
                for n, d in enumerate(data)
                if d.get("id") == partner.public_id and d.get("ext") == ext.get("ext")
            ),
            None,
        )
        if at is not None and segments:
            data[at]["segment"] += segments
            raw[at] = msgspec.Raw(msgspec.json.encode(data[at]))
        elif segments:
            added = {"id": partner.public_id, "name": partner.name, "segment": segments}
            raw.append(msgspec.Raw(msgspec.json.encode(added | ext)))
    user["data"] = msgspec.Raw(msgspec.json.encode(raw))
    fields["user"] = msgspec.Raw(msgspec.json.encode(user))
    return msgspec.json.encode(fields)


def test_generated_requests_are_judged_right_when_what_is_due_is_put_in() -> None:
    traffic = Traffic(POPULATION, seed=9)
    judged = 0
    for index in range(1_000):
        request = traffic.request(index)
        due = expectation(request, POPULATION)
        if due.outcome is Outcome.ENRICHED and not request.is_stripped:
            judged += 1
            answer = Answer(200, "enriched", enriched(request, due))
            assert judge(request, due, answer).why == ""
    assert judged > 300
