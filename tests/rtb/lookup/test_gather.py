"""The answers to one bid's ids, put together in whatever order they come."""

from typing import Any

from rtb.lookup.gather import Gather
from rtb.lookup.link import Found, LookupFault


def gather_of(*found: bytes | None) -> tuple[Gather, list[Any]]:
    answers: list[Any] = []

    def take(answer: Found | LookupFault) -> None:
        answers.append(answer)

    return Gather(list(found), take), answers


def test_answers_stand_where_their_ids_do_whichever_comes_first() -> None:
    gather, answers = gather_of(None, b"known", None)
    first, last = gather.part(0), gather.part(2)
    gather.all_asked()

    last([b"last"])
    assert not answers
    first([b"first"])

    assert answers == [[b"first", b"known", b"last"]]


def test_answer_that_is_there_before_the_next_id_is_asked_for_ends_nothing() -> None:
    gather, answers = gather_of(None, None)

    gather.part(0)([None])
    assert not answers
    gather.part(1)([b"second"])
    gather.all_asked()

    assert answers == [[None, b"second"]]


def test_first_fault_ends_it_at_once_and_nothing_after_it_is_heard() -> None:
    gather, answers = gather_of(None, None, None)
    parts = [gather.part(n) for n in range(2)]

    parts[0](LookupFault.LOST)
    assert answers == [LookupFault.LOST]
    parts[1]([b"late"])
    gather.part(2)(LookupFault.BUSY)
    gather.all_asked()

    assert answers == [LookupFault.LOST]
