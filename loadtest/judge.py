"""
Judges whole answers, if possible by comparison with right ones.

A judgement in full by `loadtest.answers` costs more CPU than the service's answer. So an answer
equal to a right one in every byte is not judged again.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from loadtest import answers
from loadtest.answers import Answer
from loadtest.traffic import BidRequest, Expectation

CLOSE = b"Connection: close\r\n"
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"\r\nContent-Length: "


NO_WAVE = -1


class Due(NamedTuple):
    """A request as sent, and its expectations before and after its wave."""

    request: BidRequest
    sent: bytes
    expected: tuple[Expectation, ...]
    wave: int  # `NO_WAVE`: its persons never change


class Phase(StrEnum):
    """The progress of a wave, from the sending of a request to its answer."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


_DUE = {Phase.BEFORE: (0,), Phase.DURING: (0, 1), Phase.AFTER: (1,)}

RIGHT = answers.RIGHT


def end_of(received: bytes) -> int:
    """
    Return the length of the answer at the start of these bytes; 0 while its head is incomplete.
    """
    end = received.find(_END_OF_HEAD)
    if end < 0:
        return 0
    at = received.find(_LENGTH, 0, end + 2)
    if at < 0:
        return end + len(_END_OF_HEAD)
    at += len(_LENGTH)
    return end + len(_END_OF_HEAD) + int(received[at : received.index(b"\r\n", at)])


class Judge:
    """
    Judges answers, and remembers right ones.

    Args:
        dues: The requests; an answer refers to its request by position.
    """

    def __init__(self, dues: Sequence[Due]) -> None:
        self.usual: list[bytes] = [b""] * len(dues)
        """The right answer to each request of a single expectation; empty until known."""

        self.in_full = 0
        """The number of answers judged in full."""

        self._dues = dues
        self._right: list[dict[int, bytes]] = [{} for _ in dues]
        self._late: list[dict[bytes, answers.Judgement]] = [{} for _ in dues]

    def judge(self, n: int, answer: bytes, phase: Phase) -> answers.Judgement:
        """Judge a whole answer without `Connection: close`; memory first."""
        due = self._dues[n]
        right = self._right[n]
        variants = (0,) if len(due.expected) == 1 else _DUE[phase]
        for variant in variants:
            if right.get(variant) == answer:
                return RIGHT
        if (late := self._late[n].get(answer)) is not None:
            return late
        judgement = RIGHT
        for variant in variants:
            judgement = self._in_full(due, due.expected[variant], answer)
            if judgement.verdict is answers.Verdict.RIGHT:
                right[variant] = answer
                if len(due.expected) == 1:
                    self.usual[n] = answer
                break
            if judgement.verdict is answers.Verdict.LATE:
                self._late[n][answer] = judgement
                break
        return judgement

    def _in_full(self, due: Due, expected: Expectation, answer: bytes) -> answers.Judgement:
        self.in_full += 1
        head, _, body = answer.partition(_END_OF_HEAD)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        outcome = fields.get("X-Enrich-Outcome", "")
        judgement = answers.judge(
            due.request, expected, Answer(int(status_line.split()[1]), outcome, body)
        )
        due_fields = {
            "X-Enrich-Outcome": outcome,
            "Content-Type": "application/json",
            "x-openrtb-version": "2.6",
            "Content-Length": str(len(body)),
        }
        if judgement.verdict is not answers.Verdict.WRONG and (
            status_line != "HTTP/1.1 200 OK" or fields != due_fields
        ):
            why = f"request {due.request.index}: another head than the one due"
            return answers.Judgement(answers.Verdict.WRONG, why)
        return judgement
