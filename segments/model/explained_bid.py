"""
Why a bid ended as it did: the question, its answer, and the answer as text.

The listener answers (`rtb.explain`). No member holds an identifier: an id is told by its kind, its
place in the request, and the rule that read it.
"""

import hmac
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from segments.model.identity import Id

_DIGEST_BYTES = 16


class AnswerForm(StrEnum):
    """The forms of an answer that can be asked for."""

    WHOLE = "whole"  # the bid request with the segments in it
    PATCH = "patch"  # a JSON Patch
    FRAGMENT = "fragment"  # OpenX's: id and user.data


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The question.

    Attributes:
        request: The bid request as text, perhaps malformed.
        recipient: Its name; `None`: the trusted caller.
        at_s: Unix time of the bid; `None`: now.
        form: Of the answer.
        trail_key: Hex; asks for the ids' digests under this key, for the audit trail.
    """

    request: str
    recipient: str | None = None
    at_s: float | None = None
    form: AnswerForm = AnswerForm.WHOLE
    trail_key: str = ""


class State(StrEnum):
    """How a stage ended."""

    PASSED = "passed"
    NOTED = "noted"  # passed, but part of it was held back
    STOPPED = "stopped"  # the bid ends here
    SKIPPED = "skipped"  # not reached, or not in use


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A single finding of a stage.

    Attributes:
        what: Its subject, such as `gdpr`, or an id's rank and kind.
        where: Its place in the request, if any.
        says: The finding.
        counts: Whether it decided anything.
        is_added: Of a segment: whether it leaves with the bid.
        audience_id: Of a segment.
        account_id: Of an opt-out; 0 is everyone.
    """

    what: str
    where: str = ""
    says: str = ""
    counts: bool = True
    is_added: bool = False
    audience_id: int | None = None
    account_id: int | None = None


class Stage(msgspec.Struct, frozen=True):
    """A stage of the bid path: its name, its end, a sentence, and its findings."""

    name: str
    state: State
    says: str
    findings: tuple[Finding, ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    """
    The answer.

    Attributes:
        outcome: Of `rtb.outcome`.
        reason: Likewise; empty if the outcome says enough.
        recipient: As asked.
        catalog_version: Of the catalog that decided.
        at_s: Unix time of the bid.
        added: The number of segments.
        leaves: The answer's additions to the request; empty: nothing.
        stages: All of them, in order.
        subjects: The ids' digests, if asked for.
        workers: Why workers of the listener, by number, answer a bid otherwise now.
    """

    outcome: str
    reason: str
    recipient: str | None
    catalog_version: int
    at_s: float
    added: int
    leaves: str
    stages: tuple[Stage, ...]
    subjects: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()


WORKERS_DIFFER: Final = (
    "Workers of this listener answer otherwise now: this is the answer of a worker that can ask the"
    " store and has its catalog."
)


def trail_digest(key: bytes, id_: Id) -> str:
    """Return an id's digest under a key, as the audit trail keeps it."""
    return hmac.digest(key, id_, "sha256")[:_DIGEST_BYTES].hex()


_MARKS = {State.PASSED: "+", State.NOTED: "!", State.STOPPED: "x", State.SKIPPED: "-"}


def in_words(explanation: Explanation) -> str:
    """Return an explanation as lines of text."""
    return "".join(f"{line}\n" for line in _lines(explanation))


def _lines(explanation: Explanation) -> Iterator[str]:
    whom = "the trusted caller" if explanation.recipient is None else explanation.recipient
    reason = f" ({explanation.reason})" if explanation.reason else ""
    yield f"{explanation.outcome}{reason}"
    yield f"{explanation.added} segments added, for {whom}, by catalog" + (
        f" {explanation.catalog_version}"
    )
    if explanation.workers:
        yield f"{_MARKS[State.NOTED]} {WORKERS_DIFFER}"
        yield from (f"    {each}" for each in explanation.workers)
    for stage in explanation.stages:
        yield f"{_MARKS[stage.state]} {stage.name:<9} {stage.says}"
        yield from _table(stage.findings)
    if explanation.leaves:
        yield "What leaves, beyond the request as received:"
        yield explanation.leaves


def _table(findings: Iterable[Finding]) -> Iterator[str]:
    rows = [(each.what, each.where, each.says) for each in findings]
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for what, where, says in rows:
        place = f"  {where:<{widths[1]}}" if widths[1] else ""
        yield f"    {what:<{widths[0]}}{place}  {says}".rstrip()
