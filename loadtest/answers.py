"""
Is this answer the one that was due?

What must not change is compared as it is spelled: `1.10` is not `1.1`, and a
key that moved is a difference. Only the white space between values may go
where a request was enriched; where it was not, the bytes are the same bytes.

A request that passes through because there was no time or no store is not a
wrong answer but a late one: the service says so, and the body must still be as
it came. Whoever runs the test decides how many of those are too many.

Nothing here quotes a body: an answer is named by the index of its request.
"""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from loadtest.population import PARTNERS
from loadtest.traffic import BidRequest, Expectation
from rtb.outcome import Outcome

LATE = frozenset({Outcome.OUT_OF_TIME, Outcome.STORE_DOWN, Outcome.SHED})
"""Endings of a request for which there was no time or no store."""

_ID_TO_PARTNER = {partner.public_id: partner for partner in PARTNERS}


class Verdict(StrEnum):
    """What became of one answer."""

    RIGHT = "right"
    LATE = "late"  # passed through as it came, for want of time or of a store
    WRONG = "wrong"


class Judgement(NamedTuple):
    """A verdict, and what is the matter where it is not `RIGHT`."""

    verdict: Verdict
    why: str = ""


RIGHT = Judgement(Verdict.RIGHT)


class Answer(NamedTuple):
    """What came back for one request on `/openrtb2/enrich`."""

    status: int
    outcome: str  # `X-Enrich-Outcome`, empty if absent
    body: bytes


class _Object(tuple[tuple[str, object], ...]):
    """A JSON object with its keys in order, even one that stands twice."""

    __slots__ = ()


class _Number(NamedTuple):
    """A JSON number as it is spelled; not equal to the string of the same characters."""

    spelled: str


def judge(request: BidRequest, expected: Expectation, answer: Answer) -> Judgement:
    """Compare an answer with what is due to the request."""
    if answer.status != 200:
        return _wrong(request, f"status {answer.status}, not 200")
    if answer.outcome in LATE:
        fault = _fault_of_untouched(request, answer.body)
        return _wrong(request, fault) if fault else Judgement(Verdict.LATE, answer.outcome)
    if answer.outcome != expected.outcome:
        return _wrong(request, f"outcome {answer.outcome!r}, not {expected.outcome.value!r}")
    if expected.outcome is Outcome.ENRICHED:
        fault = _fault_of_enriched(request, expected.segments, answer.body)
    else:
        fault = _fault_of_untouched(request, answer.body)
    return _wrong(request, fault) if fault else RIGHT


def exact(body: bytes) -> object:
    """
    Read JSON without losing how numbers are spelled and keys are ordered.

    Raises:
        ValueError: Not JSON.
    """
    return json.loads(
        body,
        object_pairs_hook=_Object,
        parse_int=_Number,
        parse_float=_Number,
        parse_constant=_refuse,
    )


def _wrong(request: BidRequest, why: str) -> Judgement:
    return Judgement(Verdict.WRONG, f"request {request.index}: {why}")


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _fault_of_untouched(request: BidRequest, body: bytes) -> str:
    """Say how a body differs that should have left as it came, but for what is stripped."""
    if body == request.body:
        return "user.ext.hashes left with it" if request.is_stripped else ""
    if not request.is_stripped:
        return f"{len(body)} bytes that are not the {len(request.body)} that came"
    try:
        answered = exact(body)
    except ValueError:
        return "the answer is not JSON"
    return (
        "" if answered == _stripped(exact(request.body)) else "more changed than what is stripped"
    )


def _fault_of_enriched(
    request: BidRequest, segments: Mapping[str, frozenset[str]], body: bytes
) -> str:
    try:
        answered = exact(body)
    except ValueError:
        return "the answer is not JSON"
    came = exact(request.body)
    if request.is_stripped:
        came = _stripped(came)
    if _without_data(answered) != _without_data(came):
        return "something outside user.data changed"
    return _fault_of_data(_data(came), _data(answered), segments)


def _fault_of_data(
    came: list[object], answered: list[object], segments: Mapping[str, frozenset[str]]
) -> str:
    """Say how `user.data` differs from what was there with our segments appended."""
    due = {partner: set(ids) for partner, ids in segments.items()}
    for before, after in zip(came, answered, strict=False):
        wanted = due.pop(_id(before), None) if _is_of_our_taxonomy(before) else None
        if wanted is None:
            if before != after:
                return "a Data object of another changed"
        elif not _is_extended(before, after, wanted):
            return "a Data object with our id is not what it was with our segments appended"
    if len(answered) < len(came):
        return "a Data object is gone"
    added = answered[len(came) :]
    if sorted(map(_id, added)) != sorted(due):
        return f"{len(added)} Data objects were added, {len(due)} are due"
    for data in added:
        if not _is_ours(data, due[_id(data)]):
            return "a Data object of ours is not {id, name, segment[{id}]} with the segments due"
    return ""


def _is_of_our_taxonomy(data: object) -> bool:
    """Say whether a `Data` with a partner's id has its `segtax`, so that the two are one."""
    partner = _ID_TO_PARTNER.get(_id(data))
    segtax = _fields(_fields(data).get("ext")).get("segtax")
    due = None if partner is None or partner.segtax is None else _Number(str(partner.segtax))
    return segtax == due


def _is_ours(data: object, wanted: set[str]) -> bool:
    partner = _ID_TO_PARTNER[_id(data)]
    fields = _fields(data)
    segments = _items(fields.pop("segment", None))
    due: dict[str, object] = {"id": partner.public_id, "name": partner.name}
    if partner.segtax is not None:
        due["ext"] = _Object((("segtax", _Number(str(partner.segtax))),))
    return fields == due and _is_segments(segments, wanted)


def _is_extended(before: object, after: object, wanted: set[str]) -> bool:
    """Say whether our segments were appended to a `Data`, each once, and nothing else."""
    was, is_ = _fields(before), _fields(after)
    segments_before = _items(was.pop("segment", None))
    segments_after = _items(is_.pop("segment", None))
    kept, added = segments_after[: len(segments_before)], segments_after[len(segments_before) :]
    missing = wanted - set(map(_id, segments_before))
    return was == is_ and kept == segments_before and _is_segments(added, missing)


def _is_segments(segments: list[object], wanted: set[str]) -> bool:
    """Say whether these are the segments wanted, each once, and nothing but their ids."""
    return sorted(map(_id, segments)) == sorted(wanted) and all(
        len(_fields(segment)) == 1 for segment in segments
    )


def _fields(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, _Object) else {}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _id(value: object) -> str:
    return str(_fields(value).get("id", ""))


def _data(request: object) -> list[object]:
    return _items(_fields(_fields(request).get("user")).get("data"))


def _without_data(request: object) -> object:
    """Leave out `user.data`, and a `user` in which there is nothing else."""
    user = _Object(item for item in _pairs(_fields(request).get("user")) if item[0] != "data")
    return _Object(
        (key, user if key == "user" else value)
        for key, value in _pairs(request)
        if key != "user" or user
    )


def _stripped(request: object) -> object:
    """Leave out `user.ext.hashes`, which is there for us alone."""
    user = _fields(request).get("user")
    ext = _Object(item for item in _pairs(_fields(user).get("ext")) if item[0] != "hashes")
    user = _Object((key, ext if key == "ext" else value) for key, value in _pairs(user))
    return _Object((key, user if key == "user" else value) for key, value in _pairs(request))


def _pairs(value: object) -> Iterable[tuple[str, object]]:
    return value if isinstance(value, _Object) else ()
