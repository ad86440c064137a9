"""
Calls of ARTF: an RTBRequest through the whole bid path but the store, compiled and interpreted.

    refused      the message is no protobuf
    passed       the answer has the call's id, and no mutations
    enriched     the official runtime reads the answer; each id in it is one of the catalog's
    opted out    the same call, of a person who has opted out of all, has no mutations
    read         where the official runtime reads it too, it reads the same
"""

import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from google.protobuf.message import DecodeError

from loadtest.artf.messages import artf, rtb_request
from rtb.openrtb.artf import ArtfReader, RtbRequest
from rtb.openrtb.mutations import MutationForm, metadata_of, rtb_response
from rtb.outcome import MalformedRequest, Outcome
from rtb.pipeline import Question, Result
from segments.model.record import EVERYONE, OptOut, OptOutAction
from tests.artf.oracle import by_the_runtime, by_us
from tests.artf.wire import BID_ID, nested, number, text
from tests.fuzz.target import Check, Target
from tests.fuzz.twins import is_asked, twins_of
from tests.rtb import requests

_FORM = MutationForm(names_partner=False, one_each=False)
_AUDIENCES = (1, 3, 11)
_NO_TO_ALL = (OptOut(EVERYONE, OptOutAction.RESTRICT),)
_SEGMENTS = {"101", "103", "201"}
_DIGEST = requests.DIGEST.encode()

_read = ArtfReader()

_PIECES = (
    BID_ID,
    nested(4, 14, of=number(1, 1)),
    nested(4, 14, of=number(4, 0)),
    nested(4, 14, of=text(3, b"\x07")),
    nested(4, 14, of=text(99, text(3, b"1"))),
    nested(4, 5, of=number(23, 0)),
    nested(4, 5, of=text(99, number(1, 3))),
    nested(4, 6, of=text(11, text(1, b"liveintent.com") + text(2, text(1, _DIGEST)))),
    nested(4, 6, of=text(8, text(1, b"shop") + text(3, text(1, b"101")))),
    nested(4, 6, of=text(10, b"x")),
    nested(4, 3, 11, 1, of=b"p1"),
    nested(4, 4, 11, 1, of=b"p2"),
    text(7, b"\x01\x02"),
    number(7, 1),
    number(1, 2),
    number(3, 5),
    text(6, text(2, b"ssp")),
    b"\x4b\x4c",
)
"""Fields of a call; behind another call each is read with it, for messages in parts are a sum."""


def _with_a_piece(data: bytes, rng: Random, _other: Callable[[], bytes]) -> bytes:
    piece = rng.choice(_PIECES)
    return data + piece if rng.random() < 0.5 else piece + data


def _with_another(data: bytes, _rng: Random, other: Callable[[], bytes]) -> bytes:
    return data + other()


def _seeds() -> Sequence[bytes]:
    eids = [{"source": "liveintent.com", "uids": [{"id": requests.DIGEST, "atype": 3}]}]
    data = [{"id": "shop", "name": "Shop", "segment": [{"id": "101"}]}]
    bids: tuple[dict[str, Any], ...] = (
        json.loads(requests.bid_request()),
        {"id": "b1", "user": {"eids": eids, "data": data}, "regs": {"gpp": "x", "gpp_sid": [7]}},
        {"id": "b1", "user": {"ext": {"eids": eids}}, "app": {"publisher": {"id": "p1"}}},
        {"id": "b1", "device": {"ifa": "x" * 36, "ext": {"atts": 3}}, "regs": {"coppa": 0}},
    )
    return [b"", *(rtb_request(bid, id="r1", applicable_intents=[1]) for bid in bids)]


def _answered(call: RtbRequest, found: bytes) -> Result:
    assert call.bid_request is not None
    recipient = requests.CATALOG.recipient(None)
    assert recipient is not None
    asked = requests.PIPELINE.ask_of(call.bid_request, recipient, requests.CATALOG)
    if not isinstance(asked, Question):
        return asked
    others = [None] * (len(asked.ids) - 1)
    return requests.PIPELINE.answer(asked, [found, *others], requests.NOW_S)


@contextmanager
def _checking() -> Iterator[Check]:
    twin, twin_oracle = twins_of("rtb.openrtb.artf", "tests.artf.oracle")
    read_by_twin = twin.ArtfReader()
    found = requests.packed(*_AUDIENCES)
    said_no = requests.packed(*_AUDIENCES, opt_outs=_NO_TO_ALL)

    def check(raw: bytes) -> Hashable:
        call = _read_or_none(_read, raw)
        if is_asked(raw):
            other = _read_or_none(read_by_twin, raw)
            assert (call is None) == (other is None), "interpreted, it is read otherwise"
            assert call is None or by_us(call) == twin_oracle.by_us(other), (
                "interpreted, another is read"
            )
        if call is None:
            return ("refused",)
        if call.bid_request is None:
            return ("no bid request",)
        result = _answered(call, found)
        written = rtb_response(call.id, result.additions, _FORM, metadata_of(7))
        response = artf.RTBResponse.FromString(written)
        assert response.id == (call.id or "")
        ids = {id_ for mutation in response.mutations for id_ in mutation.ids.id}
        assert bool(ids) == (result.outcome is Outcome.ENRICHED)
        assert ids <= _SEGMENTS
        if ids:
            assert _answered(call, said_no).outcome is Outcome.OPTED_OUT, "a person who said no"
        return (result.outcome.value, result.reason.value)

    yield check


def _read_or_none(read: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return read(raw)
    except Exception as error:
        # Of the twin's module it is another class of the same name.
        if type(error).__name__ != MalformedRequest.__name__:
            raise
        return None


def _agrees_with_the_runtime(raw: bytes) -> None:
    call = _read_or_none(_read, raw)
    if call is None or call.bid_request is None or call.bid_request.is_odd:
        return  # it is stricter here
    try:
        theirs = by_the_runtime(raw)
    except DecodeError:
        return  # in what we do not look into, or in a text
    ours = by_us(call)
    # Of a site and an app the runtime keeps one; and 2 to the 32nd is no flag of an int32.
    for stricter in ("publishers", "coppa", "gdpr", "lmt", "dnt"):
        assert ours.pop(stricter) >= theirs.pop(stricter), f"{stricter} is lost"
    assert ours == theirs, "the official runtime reads something else"


TARGETS = (
    Target(
        "call", _seeds, _checking, (_with_a_piece, _with_another), _PIECES,
        ("rtb/openrtb/artf", "rtb/openrtb/rtb_request", "rtb/openrtb/mutations"),
        max_bytes=4_000, oracle=_agrees_with_the_runtime, oracle_each=4,
    ),
)  # fmt: skip
