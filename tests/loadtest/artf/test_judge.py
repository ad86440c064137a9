"""What the judge of calls notices."""

from typing import Any

import pytest

from loadtest.answers import Verdict
from loadtest.artf.calls import framed
from loadtest.artf.judge import CallJudge
from loadtest.artf.messages import artf
from loadtest.call_loop import text_of
from loadtest.judge import NO_WAVE, Due, Phase
from loadtest.population import SEES_ALL
from loadtest.traffic import BidRequest, Expectation
from rtb.outcome import Outcome, Reason

REQUEST = BidRequest(7, SEES_ALL, b"", (), Reason.NONE, is_stripped=False)
SEGMENTS = {"shop": frozenset({"101", "102"})}
DUE = Due(REQUEST, b"", (Expectation(Outcome.ENRICHED, segments=SEGMENTS),), NO_WAVE)


def message(*ids: str, id_: str = "r7", path: str = "/user/data/segment", intent: int = 1) -> bytes:
    response: Any = artf.RTBResponse(id=id_, metadata=artf.Metadata(api_version="1.0"))
    if ids:
        response.mutations.add(intent=intent, op=1, path=path).ids.id.extend(ids)
    serialized: bytes = response.SerializeToString()
    return framed(serialized)


def answer(body: bytes, outcome: str = "enriched", status: int = 0, more: bytes = b"") -> bytes:
    head = f":status: 200\r\ncontent-type: application/grpc\r\nx-enrich-outcome: {outcome}\r\n"
    return text_of(head.encode() + more, b"grpc-status: %d\r\n" % status, body)


BOTH = message("shop:101", "shop:102")


@pytest.mark.parametrize(
    ("came", "verdict"),
    [
        pytest.param(answer(BOTH), Verdict.RIGHT, id="as due"),
        pytest.param(answer(message("shop:102", "shop:101")), Verdict.RIGHT, id="in any order"),
        pytest.param(answer(message(), "out_of_time"), Verdict.LATE, id="late"),
        pytest.param(answer(BOTH, "out_of_time"), Verdict.WRONG, id="late and with segments"),
        pytest.param(answer(message(), "no_match"), Verdict.WRONG, id="another outcome"),
        pytest.param(answer(message()), Verdict.WRONG, id="without segments"),
        pytest.param(answer(message("shop:101")), Verdict.WRONG, id="one too few"),
        pytest.param(
            answer(message("shop:101", "shop:102", "shop:102")), Verdict.WRONG, id="one twice"
        ),
        pytest.param(
            answer(message("shop:101", "bank:102")), Verdict.WRONG, id="of another partner"
        ),
        pytest.param(
            answer(message("shop:101", "shop:102", id_="r8")), Verdict.WRONG, id="another call's"
        ),
        pytest.param(
            answer(message("shop:101", "shop:102", path="/user/eids")), Verdict.WRONG, id="path"
        ),
        pytest.param(answer(message("shop:101", "shop:102", intent=2)), Verdict.WRONG, id="intent"),
        pytest.param(answer(BOTH, status=13), Verdict.WRONG, id="another status"),
        pytest.param(answer(BOTH, more=b"x: y\r\n"), Verdict.WRONG, id="another head"),
        pytest.param(answer(BOTH[:-1]), Verdict.WRONG, id="cut off"),
        pytest.param(answer(framed(b"\x0a\xff")), Verdict.WRONG, id="no protobuf"),
    ],
)
def test_answer_to_a_call_is_judged_and_again_the_same_way(came: bytes, verdict: Verdict) -> None:
    judge = CallJudge([DUE])

    assert [judge.judge(0, came, Phase.BEFORE).verdict for _ in range(3)] == [verdict] * 3
    assert judge.in_full == (3 if verdict is Verdict.WRONG else 1)
