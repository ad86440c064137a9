"""An acceptance and a soak are worth what their judge notices."""

import pytest

from loadtest.answers import Verdict
from loadtest.judge import Judge, Phase, end_of
from tests.loadtest.dues import CHANGING, STEADY, answer


@pytest.mark.parametrize(
    ("came", "verdict"),
    [
        pytest.param(answer(), Verdict.RIGHT, id="as due"),
        pytest.param(answer("out_of_time"), Verdict.LATE, id="passed through"),
        pytest.param(answer("out_of_time", b'{"id": "1"}'), Verdict.WRONG, id="and was changed"),
        pytest.param(answer(body=b'{"id":"2"}'), Verdict.WRONG, id="one byte of the body"),
        pytest.param(answer(version="2.5"), Verdict.WRONG, id="one byte of the head"),
        pytest.param(answer("enriched"), Verdict.WRONG, id="another outcome"),
        pytest.param(answer().replace(b"200 OK", b"500 No"), Verdict.WRONG, id="another status"),
    ],
)
def test_answer_is_judged_to_the_byte_and_again_the_same_way(came: bytes, verdict: Verdict) -> None:
    judge = Judge([STEADY])

    assert [judge.judge(0, came, Phase.BEFORE).verdict for _ in range(3)] == [verdict] * 3
    assert judge.in_full == (3 if verdict is Verdict.WRONG else 1)


@pytest.mark.parametrize(
    ("phase", "right"),
    [
        pytest.param(Phase.BEFORE, ["no_match"], id="before it said no"),
        pytest.param(Phase.DURING, ["no_match", "opted_out"], id="meanwhile either"),
        pytest.param(Phase.AFTER, ["opted_out"], id="once it is in force"),
    ],
)
def test_answer_of_a_person_who_changes_is_right_in_its_time_alone(
    phase: Phase, right: list[str]
) -> None:
    judge = Judge([CHANGING])
    # Both have been right before, and are remembered.
    for outcome in ("no_match", "opted_out"):
        judge.judge(0, answer(outcome), Phase.DURING)

    judged = {o: judge.judge(0, answer(o), phase).verdict for o in ("no_match", "opted_out")}

    assert [o for o, verdict in judged.items() if verdict is Verdict.RIGHT] == right


@pytest.mark.parametrize("cut", [1, 20, len(answer()) - 1])
def test_end_of_an_answer_is_known_from_its_head_on(cut: int) -> None:
    whole = answer()

    assert end_of(whole) == len(whole)
    assert end_of(whole + b"more") == len(whole)
    assert end_of(whole[:cut]) in (0, len(whole))
