"""A bid request in protobuf is answered as the same bid request in JSON."""

import json
from collections import Counter
from random import Random

import pytest

from loadtest.artf.messages import artf, rtb_request
from rtb.openrtb.artf import ArtfReader
from rtb.openrtb.fragment import fragment
from rtb.openrtb.mutations import MutationForm, metadata_of, rtb_response
from rtb.outcome import Outcome
from rtb.pipeline import Question, Result
from tests.artf.bids import CATALOG, DSP, PIPELINE, STORE, bid_request
from tests.rtb.requests import NOW_S

_read = ArtfReader()
_FORM = MutationForm(names_partner=True, one_each=False)
_RECIPIENT = CATALOG.recipient(DSP)


def _answered(asked: Question | Result) -> Result:
    if isinstance(asked, Result):
        return asked
    return PIPELINE.answer(asked, [STORE.get(id_) for id_ in asked.ids], NOW_S)


def _of_json(body: bytes) -> tuple[Result, list[str]]:
    assert _RECIPIENT is not None
    result = _answered(PIPELINE.ask(body, _RECIPIENT, CATALOG))
    if result.additions is None:
        return result, []
    each = json.loads(fragment(result.additions))["user"]["data"]
    return result, [f"{data['id']}:{segment['id']}" for data in each for segment in data["segment"]]


def _of_protobuf(raw: bytes) -> tuple[Result, list[str]]:
    assert _RECIPIENT is not None
    call = _read(raw)
    assert call.bid_request is not None
    result = _answered(PIPELINE.ask_of(call.bid_request, _RECIPIENT, CATALOG))
    written = rtb_response(call.id, result.additions, _FORM, metadata_of(CATALOG.version))
    response = artf.RTBResponse.FromString(written)
    assert response.id == call.id
    return result, [id_ for mutation in response.mutations for id_ in mutation.ids.id]


@pytest.mark.parametrize(
    ("seed", "bids"),
    [
        (1, 2_000),
        pytest.param(2, 100_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_generated_bids_are_answered_alike_in_both_encodings(seed: int, bids: int) -> None:
    rng = Random(seed)
    outcomes: Counter[Outcome] = Counter()
    for _ in range(bids):
        bid = bid_request(rng)

        of_json, segments = _of_json(json.dumps(bid).encode())
        of_protobuf, mutations = _of_protobuf(rtb_request(bid, id="r1"))

        assert (of_protobuf.outcome, of_protobuf.reason, mutations) == (
            of_json.outcome,
            of_json.reason,
            segments,
        ), bid
        outcomes[of_json.outcome] += 1

    usual = {
        Outcome.ENRICHED,
        Outcome.NO_IDENTITY,
        Outcome.NO_CONSENT,
        Outcome.OPTED_OUT,
        Outcome.NO_MATCH,
        Outcome.HELD_OUT,
    }
    assert usual == {outcome for outcome, count in outcomes.items() if count > bids // 100}, (
        outcomes
    )
