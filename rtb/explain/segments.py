"""
The segments of a person: shown, or hidden for which reason.

`Pipeline.offers` and `additions` decide, for one audience at a time. `hidden_because` only puts
their decision into words; if the two disagree, the explanation is a `Contradiction`.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from rtb.catalog import Segment
from rtb.openrtb.additions import Offer, additions
from rtb.outcome import Reason
from rtb.pipeline import Pipeline, Question, Result
from segments.model.explained_bid import Finding

_ADDED = "added"


class Shown(NamedTuple):
    """The audiences of a person, and the segments that leave, by `_key` of their offer."""

    findings: tuple[Finding, ...]
    keys: frozenset[tuple[str, int | None, str]]
    is_consistent: bool


def hidden_because(segment: Segment | None, silenced: Collection[int], now_s: float) -> str:
    """Return why an audience is not offered; empty if it is."""
    if segment is None:
        return "not in the catalog for this recipient"
    if now_s < segment.live_from_s:
        return f"shown from {_moment(segment.live_from_s)}"
    if now_s >= segment.live_until_s:
        return f"shown until {_moment(segment.live_until_s)}"
    if segment.owner_id in silenced:
        return "suppressed by an opt-out"
    return ""


def shown_of(
    pipeline: Pipeline,
    question: Question,
    audience_ids: Sequence[int],
    silenced: frozenset[int],
    now_s: float,
    result: Result,
) -> Shown:
    """Find the result for each audience of a person."""

    def offers(ids: Sequence[int]) -> list[Offer]:
        return pipeline.offers(question.recipient, ids, silenced, now_s)

    within_limit = _keys(offers(audience_ids))
    leaving = _leaving(result)
    findings: list[Finding] = []
    added: set[tuple[str, int | None, str]] = set()
    is_consistent = True
    for audience_id in dict.fromkeys(audience_ids):
        segment = question.recipient.segments.get(audience_id)
        alone = offers([audience_id])
        why = hidden_because(segment, silenced, now_s)
        is_consistent &= bool(alone) == (not why)
        if alone:
            why = _why_not_added(question, alone, within_limit)
        is_added = not why and bool(leaving)
        if is_added:
            added |= _keys(alone)
        findings.append(
            Finding(
                _name(audience_id, segment),
                "" if segment is None else segment.partner.data_id,
                _ADDED if is_added else why or "would be added",
                counts=is_added,
                is_added=is_added,
                audience_id=audience_id,
            )
        )
    return Shown(tuple(findings), leaving, is_consistent and leaving == added)


def _why_not_added(
    question: Question, alone: list[Offer], within_limit: Collection[tuple[str, int | None, str]]
) -> str:
    if not _keys(alone) <= set(within_limit):
        return "beyond the limit of segments of a partner"
    proposed = additions(question.request, alone)
    if proposed is Reason.ALREADY_THERE:
        return "is in the request already"
    if proposed is Reason.UNPLACEABLE:
        return "user.data is no array: no place for it"
    return ""


def _name(audience_id: int, segment: Segment | None) -> str:
    number = f"audience {audience_id}"
    return number if segment is None else f"{segment.segment_id} ({number})"


def _keys(offers: Sequence[Offer]) -> frozenset[tuple[str, int | None, str]]:
    return frozenset(
        (offer.data_id, offer.segtax, segment_id)
        for offer in offers
        for segment_id in offer.segment_id_to_json
    )


def _leaving(result: Result) -> frozenset[tuple[str, int | None, str]]:
    if result.additions is None:
        return frozenset()
    return frozenset(
        (addition.offer.data_id, addition.offer.segtax, segment_id)
        for addition in result.additions.each
        for segment_id in addition.segment_id_to_json
    )


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
