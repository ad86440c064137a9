"""An explanation ends as the pipeline does, whatever the request, the store and the moment."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtb.consent.decision import Policy
from rtb.outcome import MalformedRequest
from rtb.pipeline import Pipeline, PipelineOptions, Question, Result
from segments.model.explained_bid import AnswerForm
from segments.model.record import EVERYONE, OptOut, OptOutAction
from tests.rtb.consent.signals import POLICIES, REQUESTS
from tests.rtb.explain.explaining import CATALOG, LIMITED, explained
from tests.rtb.requests import DIGEST, NOW_S, OPTIONS, bodies, packed
from tests.strategies import damaged

_IFA = "0123abcd-0123-0123-0123-0123456789ab"
_UIDS: st.SearchStrategy[Any] = st.sampled_from(
    [DIGEST, "b2" * 32, "c3" * 16, f" {DIGEST}", "0" * 64, " duid ", "duid", _IFA, "", 7, None]
)
_SOURCES: st.SearchStrategy[Any] = st.sampled_from(
    ["liveintent.com", "LiveIntent.com ", "fpid.liveintent.com", "uidapi.com", "a.example", 7]
)
_EXTS: st.SearchStrategy[Any] = st.sampled_from(
    [None, {"stype": "hemmd5"}, {"provider": "liveintent.com"}, {"stype": 1}, []]
)
_EIDS = st.lists(
    st.fixed_dictionaries(
        {
            "source": _SOURCES,
            "uids": st.lists(st.fixed_dictionaries({"id": _UIDS, "ext": _EXTS}), max_size=3),
        }
    )
    | st.sampled_from([None, 7, {}]),
    max_size=3,
)
_DATA = st.sampled_from(
    [None, [], 7, [{"id": "shop", "segment": [{"id": "101"}, {"id": 102}]}], [{"id": "bank"}]]
)
_PUBLISHERS = st.sampled_from(["7001", "7002", 7001])


def _bid(said: dict[str, Any], eids: Any, eids_25: Any, data: Any, ifa: Any, more: Any) -> bytes:
    user = said.get("user", {})
    ext = {**user.get("ext", {}), "eids": eids_25, "hashes": {"email": [more]}}
    device = {**said.get("device", {}), "ifa": ifa}
    request = {"id": "r", **said, "user": {**user, "eids": eids, "ext": ext}, "device": device}
    if data is not None:
        request["user"]["data"] = data
    return json.dumps(request).encode()


def _on_site(body: bytes, publisher: str | int) -> bytes:
    site = json.dumps({"publisher": {"id": publisher}}).encode()
    return body.rstrip()[:-1] + b',"site":%b}' % site


def _said_twice(body: bytes, other: bytes) -> bytes:
    """Both bodies in one: each member twice, as no reader expects."""
    return body.rstrip()[:-1] + b"," + other.lstrip()[1:]


_BIDS = st.builds(_bid, REQUESTS, _EIDS, _EIDS, _DATA, st.sampled_from([_IFA, "", None]), _UIDS)
REQUEST_BODIES = st.one_of(
    _BIDS,
    st.builds(_on_site, _BIDS, _PUBLISHERS),
    bodies,
    st.builds(_said_twice, _BIDS, _BIDS),
    st.binary(max_size=8),
)
_OPT_OUTS = st.frozensets(
    st.builds(OptOut, st.sampled_from([1, 2, 3, 77, EVERYONE]), st.sampled_from(OptOutAction)),
    max_size=2,
)
_FOUND = st.one_of(
    st.none(),
    st.builds(
        lambda ids, opt_outs: packed(*sorted(ids), opt_outs=tuple(sorted(opt_outs))),
        st.frozensets(st.sampled_from([1, 2, 3, 6, 7, 11, 99]), max_size=5),
        st.just(frozenset()) | _OPT_OUTS,
    ),
    damaged,
)
_RECIPIENTS = st.sampled_from([None, "dsp-a", "dsp-b", "dsp-c"])
_MOMENTS = st.sampled_from([NOW_S - 1, NOW_S, NOW_S + 60])


def _ended(
    options: PipelineOptions,
    body: bytes,
    recipient: str | None,
    found: list[bytes | None],
    now_s: float,
) -> tuple[str, str]:
    """Take a bid through the pipeline, as the listener does."""
    known = CATALOG.recipient(recipient)
    assert known is not None
    pipeline = Pipeline(options)
    try:
        asked: Question | Result = pipeline.ask(body, known, CATALOG)
    except MalformedRequest as malformed:
        return "malformed", malformed.reason
    if isinstance(asked, Question):
        records = [*found, *[None] * len(asked.ids)][: len(asked.ids)]
        asked = pipeline.answer(asked, records, now_s)
    return asked.outcome, asked.reason


def _agrees(
    body: bytes,
    policy: Policy,
    options: PipelineOptions,
    recipient: str | None,
    found: list[bytes | None],
    now_s: float,
    form: AnswerForm,
) -> None:
    options = replace(options, consent=policy)

    explanation = explained(
        body, *found, recipient=recipient, form=form, options=options, now_s=now_s
    )

    ended = _ended(options, body, recipient, found, now_s)
    assert (explanation.outcome, explanation.reason) == ended
    assert (explanation.added > 0) == (explanation.outcome == "enriched")
    told = msgspec.json.encode(explanation)
    assert not any(text in told for text in (DIGEST.encode(), b"b2b2b2", b"c3c3c3", b"0123abcd"))


_CASES = st.tuples(
    REQUEST_BODIES,
    POLICIES | st.just(OPTIONS.consent),
    st.sampled_from([OPTIONS, LIMITED]),
    _RECIPIENTS,
    st.lists(_FOUND, max_size=3),
    _MOMENTS,
    st.sampled_from(AnswerForm),
)


@given(_CASES)
def test_explanation_ends_as_the_bid_does(case: Any) -> None:
    _agrees(*case)


@pytest.mark.long
@pytest.mark.timeout(900)
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck), deadline=None)
@given(_CASES)
def test_ten_thousand_explanations_end_as_their_bids_do(case: Any) -> None:
    _agrees(*case)
