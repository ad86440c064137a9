"""
Judges answers against expectations.

Unchanged parts are compared as spelled: `1.10` is not `1.1`, and a moved key is a difference. An
enriched request may lose white space between values; any other must keep its bytes.

A request that passes through for want of time or of a store is late, not wrong: its outcome header
says so, and its body must be untouched. Each test limits late answers.

Messages quote no body, but name the request's index.
"""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from loadtest.population import PARTNERS
from loadtest.traffic import BidRequest, Expectation
from rtb.outcome import Outcome

LATE = frozenset({Outcome.OUT_OF_TIME, Outcome.STORE_DOWN, Outcome.SHED})
"""Outcomes for want of time or of a store."""

_ID_TO_PARTNER = {partner.public_id: partner for partner in PARTNERS}


class Verdict(StrEnum):
    """The verdict on an answer."""

    RIGHT = "right"
    LATE = "late"  # passed through as it came, for want of time or of a store
    WRONG = "wrong"


class Judgement(NamedTuple):
    """A verdict, and the fault unless it is `RIGHT`."""

    verdict: Verdict
    why: str = ""


RIGHT = Judgement(Verdict.RIGHT)


class Answer(NamedTuple):
    """The response to a request on `/openrtb2/enrich`."""

    status: int
    outcome: str  # `X-Enrich-Outcome`, empty if absent
    body: bytes


class _Object(tuple[tuple[str, object], ...]):
    """A JSON object with its keys in order, including duplicates."""

    __slots__ = ()


class _Number(NamedTuple):
    """A JSON number as spelled; not equal to the string of the same characters."""

    spelled: str


def judge(request: BidRequest, expected: Expectation, answer: Answer) -> Judgement:
    """Compare an answer with the expectation of its request."""
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
    Parse JSON with the spelling of numbers and the order of keys.

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
    """Tell whether a `Data` with a partner's id has its `segtax`, too."""
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
    """Tell whether our segments alone were appended to a `Data`, each once."""
    was, is_ = _fields(before), _fields(after)
    segments_before = _items(was.pop("segment", None))
    segments_after = _items(is_.pop("segment", None))
    kept, added = segments_after[: len(segments_before)], segments_after[len(segments_before) :]
    missing = wanted - set(map(_id, segments_before))
    return was == is_ and kept == segments_before and _is_segments(added, missing)


def _is_segments(segments: list[object], wanted: set[str]) -> bool:
    """Tell whether these are the wanted segments, each once, with only their ids."""
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
    """Remove `user.data`, and a `user` left empty."""
    user = _Object(item for item in _pairs(_fields(request).get("user")) if item[0] != "data")
    return _Object(
        (key, user if key == "user" else value)
        for key, value in _pairs(request)
        if key != "user" or user
    )


def _stripped(request: object) -> object:
    """Remove `user.ext.hashes`, which is for us alone."""
    user = _fields(request).get("user")
    ext = _Object(item for item in _pairs(_fields(user).get("ext")) if item[0] != "hashes")
    user = _Object((key, ext if key == "ext" else value) for key, value in _pairs(user))
    return _Object((key, user if key == "user" else value) for key, value in _pairs(request))


def _pairs(value: object) -> Iterable[tuple[str, object]]:
    return value if isinstance(value, _Object) else ()
