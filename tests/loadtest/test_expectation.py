"""
What the traffic says is due against the bid path's pure halves, without a store.

The two were written apart from the same rules (docs/field.md):
`expectation` knows what was planted and never reads a request, the pipeline
reads it and knows nothing else.
"""

from collections import Counter

import pytest

from loadtest.answers import Answer, Verdict, judge
from loadtest.artf.calls import calls, framed
from loadtest.artf.judge import CallJudge
from loadtest.call_loop import text_of
from loadtest.judge import NO_WAVE, Due, Phase
from loadtest.population import (
    ERASED_REMAINDER,
    OPT_OUT_MODULUS,
    PARTNERS,
    RECIPIENT_TO_PARTNERS,
    RESTRICTED_REMAINDER,
    Population,
    is_retired,
)
from loadtest.traffic import BidRequest, Traffic, expectation
from rtb.catalog import Catalog
from rtb.openrtb.artf import ArtfReader
from rtb.openrtb.inject import inject
from rtb.openrtb.mutations import MutationForm, metadata_of, rtb_response
from rtb.outcome import Outcome, Reason
from rtb.pipeline import Pipeline, Question, Result
from rtb.settings import RtbSettings
from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot, RecipientEntry
from segments.model.record import EVERYONE, Membership, OptOut, OptOutAction, Record, pack

POPULATION = Population(100_000)
COUNT = 10_000
NOW_S = 1_800_000_000.0

PARTNER_TO_ACCOUNT = {partner.public_id: n for n, partner in enumerate(PARTNERS, 1)}
AUDIENCE_TO_ID = {
    audience: n
    for n, audience in enumerate(
        sorted(
            {
                (share.partner.public_id, segment_id)
                for cohort in range(POPULATION.cohorts)
                for share in POPULATION.shares(cohort)
                for segment_id in share.segment_ids
            }
        ),
        1,
    )
}


def record_of(number: int) -> bytes | None:
    """What a seeded store holds of a person."""
    if not POPULATION.is_known(number):
        return None
    remainder = number % OPT_OUT_MODULUS
    memberships = tuple(
        Membership(AUDIENCE_TO_ID[share.partner.public_id, segment_id])
        for share in POPULATION.shares(POPULATION.cohort_of(number))
        for segment_id in share.segment_ids
    )
    if remainder == ERASED_REMAINDER:
        return pack(Record((OptOut(EVERYONE, OptOutAction.ERASURE),)))
    if remainder == RESTRICTED_REMAINDER:
        return pack(Record((OptOut(EVERYONE, OptOutAction.RESTRICT),), memberships))
    return pack(Record((), memberships))


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    accounts = tuple(
        AccountEntry(n, "advertiser", partner.public_id, partner.name, True, segtax=partner.segtax)
        for n, partner in enumerate(PARTNERS, 1)
    )
    audiences = tuple(
        AudienceEntry(
            audience_id,
            PARTNER_TO_ACCOUNT[partner_id],
            PARTNER_TO_ACCOUNT[partner_id],
            segment_id,
            is_active=not is_retired(segment_id),
        )
        for (partner_id, segment_id), audience_id in AUDIENCE_TO_ID.items()
    )
    recipients = tuple(
        RecipientEntry(n, name, True, tuple(PARTNER_TO_ACCOUNT[p] for p in sorted(granted)))
        for n, (name, granted) in enumerate(RECIPIENT_TO_PARTNERS.items(), 1)
    )
    return Catalog.from_snapshot(CatalogSnapshot(1, audiences, accounts, recipients))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(RtbSettings().pipeline_options)


def result_of(pipeline: Pipeline, catalog: Catalog, request: BidRequest) -> Result:
    recipient = catalog.recipient(request.recipient)
    assert recipient is not None
    return _answered(pipeline, pipeline.ask(request.body, recipient, catalog), request)


def _answered(pipeline: Pipeline, asked: Question | Result, request: BidRequest) -> Result:
    if not isinstance(asked, Question):
        return asked
    id_to_record = {POPULATION.id_of(n): record_of(n) for n in request.planted}
    # What is looked up is what was planted, nothing else and nothing less.
    assert set(asked.ids) == set(id_to_record)
    return pipeline.answer(asked, [id_to_record[id_] for id_ in asked.ids], NOW_S)


def test_ten_thousand_requests_get_what_is_due_and_leave_otherwise_unchanged(
    pipeline: Pipeline, catalog: Catalog
) -> None:
    traffic = Traffic(POPULATION, seed=11)
    seen: Counter[tuple[Outcome, Reason]] = Counter()
    for index in range(COUNT):
        request = traffic.request(index)
        due = expectation(request, POPULATION)

        result = result_of(pipeline, catalog, request)

        body = result.body if result.additions is None else inject(result.body, result.additions)
        assert judge(request, due, Answer(200, result.outcome, body)).why == ""
        assert result.reason == due.reason, f"request {index}"
        seen[due.outcome, due.reason] += 1

    assert seen[Outcome.ENRICHED, Reason.NONE] > COUNT * 0.4
    assert len(seen) >= 12


def test_calls_get_what_is_due_of_the_same_requests(pipeline: Pipeline, catalog: Catalog) -> None:
    """Nothing that decides about a request is lost where it is sent in protobuf."""
    read, form = ArtfReader(), MutationForm(names_partner=True, one_each=False)
    seen: Counter[Outcome] = Counter()
    made = list(calls(Traffic(POPULATION, seed=12), COUNT // 10))
    dues = [Due(r, b"", (expectation(r, POPULATION),), NO_WAVE) for r, _ in made]
    judge = CallJudge(dues)
    for n, (request, message) in enumerate(made):
        call = read(message)
        recipient = catalog.recipient(call.originator)
        assert recipient is not None
        assert call.bid_request is not None
        assert call.wants_segments
        asked = pipeline.ask_of(call.bid_request, recipient, catalog)

        result = _answered(pipeline, asked, request)

        body = framed(rtb_response(call.id, result.additions, form, metadata_of(1)))
        head = b":status: 200\r\ncontent-type: application/grpc\r\nx-enrich-outcome: %b\r\n"
        answer = text_of(head % result.outcome.encode(), b"grpc-status: 0\r\n", body)
        assert judge.judge(n, answer, Phase.BEFORE) == (Verdict.RIGHT, "")
        seen[result.outcome] += 1

    assert seen[Outcome.ENRICHED] > len(made) * 0.3
    assert len(seen) == 5
