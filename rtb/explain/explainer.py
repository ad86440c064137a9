"""
Why a bid ended as it did: explained by the code that answers bids.

    the verdict    `Pipeline.ask` and `Pipeline.answer`, as the listener calls them
    the findings   the functions that these two call, each asked about one thing at a time

So no rule has a second copy here, and the bid path imports nothing of this package. An
explanation that contradicts its verdict is never given: `Contradiction` is raised instead, a bug
of ours.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rtb.catalog import Catalog, Recipient
from rtb.deadline import deadline_ms
from rtb.explain.identifiers import Reader
from rtb.explain.segments import shown_of
from rtb.explain.signals import leaves_of
from rtb.explain.stages import (
    consented,
    count,
    held_out,
    identified,
    looked_up,
    opted_out,
    stopped,
    stripped,
)
from rtb.openrtb.copies import MAX_UIDS
from rtb.openrtb.fragment import fragment
from rtb.openrtb.patch import patch
from rtb.openrtb.request import Request
from rtb.outcome import MalformedRequest, Outcome, Reason
from rtb.pipeline import (
    Pipeline,
    PipelineOptions,
    Question,
    Result,
    first_found,
    live_of_all,
    silenced_owners,
)
from segments.model.explained_bid import AnswerForm, Explanation, Stage, State
from segments.model.identity import Id
from segments.model.record import CorruptRecord


class Contradiction(Exception):
    """The findings of an explanation contradict its verdict: a bug of ours."""


class Deadline(NamedTuple):
    """The time that a bid may wait for the store: see `rtb.deadline`."""

    share: float
    cap_ms: float


class Half(NamedTuple):
    """An explanation up to the question to the store."""

    body: bytes
    catalog: Catalog
    recipient: Recipient
    asked: Question | Result | None  # `None`: malformed
    stages: tuple[Stage, ...]
    reason: Reason = Reason.NONE  # of a malformed request

    @property
    def ids(self) -> tuple[Id, ...]:
        """The ids to look up."""
        return self.asked.ids if isinstance(self.asked, Question) else ()


class Explainer:
    """
    Explains bids.

    Args:
        options: The listener's.
        deadline: Likewise.
    """

    def __init__(self, options: PipelineOptions, deadline: Deadline) -> None:
        self._pipeline = Pipeline(options)
        self._deadline = deadline
        pipeline = self._pipeline
        self._reader = Reader(options.id_rules, pipeline.identify, pipeline.decode)

    def ask(self, body: bytes, recipient: Recipient, catalog: Catalog) -> Half:
        """
        Explain the stages that need no store.

        Raises:
            Contradiction: The findings explain another outcome.
        """
        pipeline = self._pipeline
        stages: list[Stage] = []
        try:
            request = pipeline.decode.in_full(body)
            stages.append(self._decoded(body, request))
            asked = pipeline.ask(body, recipient, catalog)
        except MalformedRequest as malformed:
            stages.append(
                stopped("Strip", "An input-only field can't be taken out", malformed.reason)
                if stages
                else stopped("Decode", "No bid request", malformed.reason)
            )
            return Half(body, catalog, recipient, None, tuple(stages), malformed.reason)
        stages.append(stripped(asked.stripped))
        if len(request.uids) > MAX_UIDS:
            stages.append(stopped("Identify", f"{len(request.uids)} uids", Reason.TOO_MANY_IDS))
            expected = (Outcome.NO_CONSENT, Reason.TOO_MANY_IDS)
        else:
            reads = self._reader.read(request)
            ids, _ = pipeline.identify(request)
            if {id_ for read in reads for id_ in read.ids} != set(ids):
                raise Contradiction("identify")
            stages.append(identified(reads, ids, self._reader.rule_in_words))
            expected = (Outcome.NO_IDENTITY, Reason.NONE)
            if ids:
                leaves = leaves_of(request, pipeline.policy)
                reason = next((leaf.reason for leaf in leaves if leaf.reason), Reason.NONE)
                if not reason and len(ids) > pipeline.max_ids:
                    reason = Reason.TOO_MANY_IDS
                stages.append(consented(leaves, reason))
                expected = (Outcome.NO_CONSENT, reason)
                if not reason and not (isinstance(asked, Question) and asked.ids == ids):
                    raise Contradiction("consent")
        if isinstance(asked, Result) and (asked.outcome, asked.reason) != expected:
            raise Contradiction("consent")
        return Half(body, catalog, recipient, asked, tuple(stages))

    def answer(
        self,
        half: Half,
        found: Sequence[bytes | None],
        now_s: float,
        form: AnswerForm = AnswerForm.WHOLE,
        subjects: tuple[str, ...] = (),
    ) -> Explanation:
        """
        Explain the stages after the store's reply; without a question, only put all together.

        Args:
            half: From `ask`.
            found: The packed record of each of `half.ids`; `None` for an unknown id.
            now_s: Unix time of the bid.
            form: Of the answer that leaves.
            subjects: Passed on.

        Raises:
            Contradiction: They explain another outcome.
        """
        asked = half.asked
        stages = half.stages
        if asked is None:
            outcome, reason, added, leaves = Outcome.MALFORMED, half.reason, 0, b""
        else:
            if isinstance(asked, Result):
                result = asked
            else:
                result = self._pipeline.answer(asked, found, now_s)
                stages = (*stages, *self._answered(asked, found, now_s, result))
            outcome, reason = result.outcome, result.reason
            each = [] if result.additions is None else result.additions.each
            added = sum(len(addition.segment_id_to_json) for addition in each)
            leaves = _what_leaves(result, form)
        reached = {stage.name for stage in stages}
        others = [
            Stage(name, State.SKIPPED, "Not reached") for name in _STAGES if name not in reached
        ]
        return Explanation(
            outcome.value,
            reason.value,
            half.recipient.name,
            half.catalog.version,
            now_s,
            added,
            leaves.decode("utf-8", "replace"),
            (*stages, *others),
            subjects,
        )

    def _decoded(self, body: bytes, request: Request) -> Stage:
        # Made only for its `tmax_ms`, never sent to the store.
        question = Question(request, (), (), (), Recipient(None, {}, 0.0), _NO_CATALOG)
        tmax_ms = question.tmax_ms
        within_ms = deadline_ms(tmax_ms, self._deadline.share, self._deadline.cap_ms)
        said = "no tmax" if tmax_ms is None else f"tmax {tmax_ms:g} ms"
        says = f"A bid request of {len(body)} bytes; {said} leaves the store {within_ms:.1f} ms"
        return Stage("Decode", State.PASSED, says)

    def _answered(
        self, question: Question, found: Sequence[bytes | None], now_s: float, result: Result
    ) -> list[Stage]:
        """Explain the result of `Pipeline.answer`, and check that the findings lead to it."""
        try:
            opt_outs, audience_ids = live_of_all(found, now_s)
        except CorruptRecord:
            _check(result, Outcome.STORE_DOWN, Reason.CORRUPT_RECORD)
            return [stopped("Lookup", "A record can't be read", Reason.CORRUPT_RECORD)]
        stages = [looked_up(found, len(audience_ids), len(opt_outs))]

        silenced = silenced_owners(question, opt_outs)
        stages.append(opted_out(question, opt_outs, silenced))
        if silenced is None:
            _check(result, Outcome.OPTED_OUT)
            return stages

        shown = shown_of(self._pipeline, question, audience_ids, silenced, now_s, result)
        if not shown.is_consistent:
            raise Contradiction("segments")
        offers = self._pipeline.offers(question.recipient, audience_ids, silenced, now_s)
        added = sum(finding.is_added for finding in shown.findings)
        if not offers:
            is_told = not silenced.isdisjoint(question.recipient.owner_ids)
            _check(result, Outcome.OPTED_OUT if is_told else Outcome.NO_MATCH)
            says = "No segment for this recipient, now"
            return [*stages, Stage("Segments", State.STOPPED, says, shown.findings)]
        recipient = question.recipient
        is_held_out = recipient.holds_out(first_found(question.ids, found))
        says = f"{added} of {count(len(shown.findings), 'audience')} added"
        state = State.PASSED
        if not is_held_out and not added:
            state = State.STOPPED
            _check(result, Outcome.NO_MATCH, result.reason)
        stages.append(Stage("Segments", state, says, shown.findings))
        stages.append(held_out(recipient, is_held_out=is_held_out))
        if is_held_out:
            _check(result, Outcome.HELD_OUT)
        elif added:
            _check(result, Outcome.ENRICHED)
        return stages


_NO_CATALOG = Catalog(0, Recipient(None, {}, 0.0), {}, {})
_STAGES = ("Decode", "Strip", "Identify", "Consent", "Lookup", "Opt-outs", "Segments", "Hold-out")


def _check(result: Result, outcome: Outcome, reason: Reason = Reason.NONE) -> None:
    if result.outcome is not outcome or result.reason is not reason:
        raise Contradiction(f"{outcome}")


def _what_leaves(result: Result, form: AnswerForm) -> bytes:
    """Return the content of the answer beyond the request, which the caller has."""
    added = result.additions
    if form is AnswerForm.PATCH:
        return patch(added, result.stripped)
    if added is None:
        return b""
    if form is AnswerForm.FRAGMENT:
        return fragment(added)
    return b'"data":[%b]' % b",".join(each.data for each in added.each)
