"""An RTBResponse, byte for byte what the official runtime writes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.artf.messages import artf
from rtb.openrtb.additions import Addition, Additions, Offer
from rtb.openrtb.artf import ArtfReader
from rtb.openrtb.mutations import MutationForm, metadata_of, rtb_response
from rtb.openrtb.request import Request
from tests.artf.wire import BID_ID

ALL_IN_ONE = MutationForm(names_partner=False, one_each=False)
ONE_EACH = MutationForm(names_partner=False, one_each=True)
WITH_PARTNER = MutationForm(names_partner=True, one_each=False)


def _request() -> Request:
    request = ArtfReader()(BID_ID).bid_request
    assert request is not None
    return request


def _additions(**partner_to_ids: list[str]) -> Additions:
    each = [
        Addition(Offer(partner, None, b"", b"", {}), dict.fromkeys(ids, b""))
        for partner, ids in partner_to_ids.items()
    ]
    return Additions(_request(), b"", each)


def _official(id_: str | None, payloads: list[list[str]], model_version: str) -> Any:
    message = artf.RTBResponse(metadata=artf.Metadata(api_version="1.0"))
    if id_ is not None:
        message.id = id_
    if model_version:
        message.metadata.model_version = model_version
    for ids in payloads:
        mutation = message.mutations.add(intent=1, op=1, path="/user/data/segment")
        mutation.ids.id.extend(ids)
    return message


def test_example_is_written_as_the_official_runtime_writes_it() -> None:
    written = rtb_response("r1", _additions(shop=["123", "456"]), ALL_IN_ONE, metadata_of(0))

    assert written.hex() == (
        "0a02723112250801"
        "10011a122f757365722f646174612f7365676d656e74"
        "a2060a0a033132330a033435361a050a03312e30"
    )
    assert written == _official("r1", [["123", "456"]], "").SerializeToString()


@given(
    st.none() | st.text(max_size=200),
    st.lists(st.text(max_size=40) | st.just("x" * 20_000), min_size=1, max_size=30, unique=True),
    st.booleans(),
    st.integers(0, 2**40),
)
def test_any_answer_is_written_as_the_official_runtime_writes_it(
    id_: str | None, ids: list[str], one_each: bool, version: int
) -> None:
    form = ONE_EACH if one_each else ALL_IN_ONE
    payloads = [[each] for each in ids] if one_each else [ids]

    written = rtb_response(id_, _additions(shop=ids), form, metadata_of(version))

    official = _official(id_, payloads, str(version) if version else "")
    assert written == official.SerializeToString()


def test_answer_without_additions_has_the_id_and_no_mutations() -> None:
    written = rtb_response("r1", None, ALL_IN_ONE, metadata_of(7))

    assert written == _official("r1", [], "7").SerializeToString()


@pytest.mark.parametrize(
    ("form", "ids"),
    [
        (ALL_IN_ONE, [["1", "2", "3"]]),
        (ONE_EACH, [["1"], ["2"], ["3"]]),
        (WITH_PARTNER, [["shop:1", "shop:2", "bank:2", "bank:3"]]),
        (
            MutationForm(names_partner=True, one_each=True),
            [["shop:1"], ["shop:2"], ["bank:2"], ["bank:3"]],
        ),
    ],
)
def test_ids_of_two_partners_are_told_apart_where_they_are_named(
    form: MutationForm, ids: list[list[str]]
) -> None:
    written = rtb_response(None, _additions(shop=["1", "2"], bank=["2", "3"]), form, b"")

    mutations = artf.RTBResponse.FromString(written).mutations
    assert [list(mutation.ids.id) for mutation in mutations] == ids
