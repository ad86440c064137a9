"""
The same person, asked for by a bid request, by Prebid Server's query, and by Google's request.

What one of them may be shown, another is shown too, and nobody who is hidden from the first: the
signals are those of the tests of bid requests.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from hypothesis import given, settings
from hypothesis import strategies as st

from rtb.openrtb.curation import segment_response
from rtb.openrtb.fragment import fragment
from rtb.openrtb.targeting import targeting_answer
from rtb.outcome import Outcome
from rtb.pipeline import Pipeline, Question, Result
from segments.model.identity import (
    Id,
    id_of_duid,
    id_of_eid,
    id_of_email_hash,
    id_of_ifa,
)
from segments.model.record import EVERYONE, OptOut, OptOutAction
from tests.rtb.consent import signals
from tests.rtb.questions import PIPELINES
from tests.rtb.requests import BANK, CATALOG, NOW_S, PIPELINE, SHOP, packed

_CURATION, _TARGETING = PIPELINES["curation"], PIPELINES["targeting"]

_HASH, _OTHER_HASH = "a1" * 32, "b2" * 16
_EID, _DUID = "an eid+%", "a-duid"
_IFA = "0b23a5f1-5c4d-4c9a-8a76-2b9f4b8c1d2e"

_IDENTIFIERS: Mapping[str, tuple[Id, str, str | None]] = {
    _HASH: (id_of_email_hash(_HASH), "e", None),
    _OTHER_HASH: (id_of_email_hash(_OTHER_HASH), "c", "liveintent.com"),
    _EID: (id_of_eid("liveintent.com", _EID), "c", "liveintent.com"),
    _DUID: (id_of_duid(_DUID), "c1", "fpid.liveintent.com"),
    _IFA: (id_of_ifa(_IFA), "g", None),
}
"""Identifiers, with the id, the prefix, and the source of each."""

_PEOPLE = st.lists(st.sampled_from(sorted(_IDENTIFIERS)), max_size=3, unique=True)
_OPT_OUTS: st.SearchStrategy[tuple[OptOut, ...]] = st.sampled_from(
    [
        *((),) * 3,
        (OptOut(EVERYONE, OptOutAction.RESTRICT),),
        (OptOut(SHOP.id, OptOutAction.ERASURE),),
        (OptOut(BANK.id, OptOutAction.RESTRICT),),
        (OptOut(999, OptOutAction.RESTRICT),),
    ]
)
_RECORDS = st.none() | st.builds(
    lambda audience_ids, opt_outs: packed(*sorted(audience_ids), opt_outs=opt_outs),
    st.sets(st.sampled_from([1, 2, 3, 11, 99])),
    _OPT_OUTS,
)
_STORES = st.fixed_dictionaries({id_: _RECORDS for id_, _, _ in _IDENTIFIERS.values()})


def _answered(pipeline: Pipeline, asked: bytes, store: Mapping[Id, bytes | None]) -> Result:
    recipient = CATALOG.recipient(None)
    assert recipient is not None
    question = pipeline.ask(asked, recipient, CATALOG)
    if isinstance(question, Result):
        return question
    assert isinstance(question, Question)
    return pipeline.answer(question, [store[id_] for id_ in question.ids], NOW_S)


def _fields(said: Mapping[str, Any], person: Sequence[str], *, hashes: bool) -> dict[str, Any]:
    """Return the members of a request that says this of this person."""
    user, device = dict(said.get("user", {})), dict(said.get("device", {}))
    eids = []
    for text in person:
        _, prefix, source = _IDENTIFIERS[text]
        if source is not None:
            eids.append({"source": source, "uids": [{"id": text}]})
        elif prefix != "e":
            device["ifa"] = text
        elif hashes:
            user["ext"] = {**user.get("ext", {}), "hashes": {"email": text}}
        else:
            uid = {"id": text, "ext": {"stype": "hemsha256"}}
            eids.append({"source": "any.example", "uids": [uid]})
    return {**said, "user": {**user, "eids": eids}, "device": device}


def _shown(result: Result) -> list[Any]:
    if result.additions is None:
        return []
    data: list[Any] = json.loads(fragment(result.additions))["user"]["data"]
    return data


@settings(max_examples=400, deadline=None)
@given(signals.ALONE | signals.REQUESTS, _PEOPLE, _STORES)
def test_segment_request_ends_as_the_bid_request_that_says_the_same(
    said: dict[str, Any], person: list[str], store: dict[Id, bytes | None]
) -> None:
    fields = _fields(said, person, hashes=False)
    bid = _answered(PIPELINE, json.dumps({"id": "r", **fields}).encode(), store)
    segments = _answered(
        _CURATION, json.dumps({"segment_request_id": "r", **fields}).encode(), store
    )

    assert (segments.outcome, segments.reason) == (bid.outcome, bid.reason)
    due = [segment["id"] for data in _shown(bid) for segment in data["segment"]]
    response = segment_response(segments.additions)
    assert bool(response) == bool(due)
    if due:
        assert [each["segment_id"] for each in json.loads(response)["segment"]] == due


def _query(said: Mapping[str, Any], person: Sequence[str]) -> bytes:
    """Ask as the module does; what it does not send of the signals is said in the same way."""
    parts = ["?t=acme"]
    parts += [f"id={quote_plus(f'{_IDENTIFIERS[text][1]}:{text}')}" for text in person]
    regs, user, device = (said.get(name, {}) for name in ("regs", "user", "device"))
    for place in (regs, regs.get("ext", {}), user, user.get("ext", {}), device):
        for name, value in place.items():
            if name in ("ext", "atts") or value is None:
                continue
            key = "gdpr_consent" if name == "consent" else name
            parts.append(f"{key}={_text_of(name, value)}")
    return "&".join(parts).encode()


def _text_of(name: str, value: Any) -> str:
    if isinstance(value, str) and name in ("consent", "gpp", "us_privacy"):
        return value
    if isinstance(value, list) and name == "gpp_sid":
        return f"Optional[{value[0]}]" if value else ""
    if type(value) is int or (isinstance(value, str) and name == "gpc"):
        return str(value)
    return f"odd: {value}"


@settings(max_examples=400, deadline=None)
@given(signals.ALONE | signals.REQUESTS, _PEOPLE, _STORES)
def test_query_shows_nobody_whom_the_bid_request_that_says_the_same_hides(
    said: dict[str, Any], person: list[str], store: dict[Id, bytes | None]
) -> None:
    """An `atts` can't be said in a query; and a query that says less is held stricter."""
    said.get("device", {}).pop("ext", None)
    fields = _fields(said, _said_once(person), hashes=True)
    bid = _answered(PIPELINE, json.dumps({"id": "r", **fields}).encode(), store)
    query = _answered(_TARGETING, _query(said, _said_once(person)), store)

    if query.outcome is Outcome.ENRICHED:
        assert bid.outcome is Outcome.ENRICHED
        answer = json.loads(targeting_answer(query.additions))
        assert answer["ortb2"]["user"]["data"] == _shown(bid)
    else:
        assert json.loads(targeting_answer(query.additions))["ortb2"]["user"]["data"] == []


@settings(max_examples=200, deadline=None)
@given(_PEOPLE, _STORES)
def test_query_that_says_nothing_against_it_ends_as_the_bid_request(
    person: list[str], store: dict[Id, bytes | None]
) -> None:
    fields = _fields({}, _said_once(person), hashes=True)
    bid = _answered(PIPELINE, json.dumps({"id": "r", **fields}).encode(), store)
    query = _answered(_TARGETING, _query({}, _said_once(person)), store)

    assert query.outcome is bid.outcome
    answer = json.loads(targeting_answer(query.additions))
    assert answer["ortb2"]["user"]["data"] == _shown(bid)


def _said_once(person: Sequence[str]) -> list[str]:
    """Leave of each prefix one id, as the module does."""
    return list({_IDENTIFIERS[text][1]: text for text in person}.values())
