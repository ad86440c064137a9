"""
What we would add to a bid request: proposed here, applied by the answer forms.

One `Data` per partner (3.2.21). Where the request carries a `Data` of that id
already, what is there stays, and the segments that it lacks are appended;
otherwise ours is appended to `user.data`, behind all others. A segment's
`name` and `value` are never shown.

Garbage stays where it is: an element of `user.data` that is no object, or a
`Data` of our id whose `segment` is no array, is left alone, and ours goes
beside it. Only where `user.data` itself is of a wrong type there is nowhere to
put a segment. (A `user` of a wrong type has lost its signals, and was refused.)
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from rtb.openrtb.views import ABSENT, Odd, OddList, Request
from rtb.outcome import Reason


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What one partner has to show of a person; all rendered JSON but the ids."""

    data_id: str
    head: bytes  # `{"id":...,"name":...,"segment":[`
    tail: bytes  # `]` and what follows
    segment_id_to_json: Mapping[str, bytes]


class Addition(msgspec.Struct, frozen=True, gc=False):
    """One partner's segments that the request lacks."""

    data: bytes  # a whole `Data` object with just these segments
    segments: list[bytes]
    at: int | None = None  # the element of user.data to append them to; none: a new one
    present: bytes = b""  # `segment` of that element


class Additions(msgspec.Struct, frozen=True, gc=False):
    """
    All that is to be added, and what stands where it goes.

    `user`, `user_data` and `present` above are the bytes as they stand in the
    body: an object or an array, null, or nothing where the member is missing.
    """

    request_id: bytes
    user: bytes
    user_data: bytes
    each: list[Addition]


class _Data(msgspec.Struct, frozen=True, gc=False):
    """3.2.21 Data, as far as it takes to know whose it is."""

    id: Any = None
    segment: Raw = ABSENT


class _Segment(msgspec.Struct, frozen=True, gc=False):
    """3.2.22 Segment."""

    id: Any = None


_decode_user_data = msgspec.json.Decoder(list[_Data | Odd] | OddList).decode
_decode_segments = msgspec.json.Decoder(list[_Segment | Odd] | OddList).decode


def additions(request: Request, offers: Iterable[Offer]) -> Additions | Reason:
    """
    Propose what to add to a request.

    Args:
        request: As it leaves; none of its parts is odd.
        offers: What the partners have to show; each at least one segment.

    Returns:
        The proposal; or why there is none: `ALREADY_THERE`, `UNPLACEABLE`.
    """
    user_data = request.user.data
    present = _array_in(user_data, _decode_user_data)
    if present is None:
        return Reason.UNPLACEABLE

    each = []
    for offer in offers:
        addition = _addition(offer, present)
        if addition is not None:
            each.append(addition)
    if not each:
        return Reason.ALREADY_THERE
    return Additions(bytes(request.head.id), bytes(request.user_raw), bytes(user_data), each)


def _addition(offer: Offer, present: list[Any]) -> Addition | None:
    at, at_segment = None, b""
    lacking = offer.segment_id_to_json
    for index, data in enumerate(present):
        if isinstance(data, _Data) and data.id == offer.data_id:
            segments = _array_in(data.segment, _decode_segments)
            if segments is None:
                continue
            if at is None:
                at, at_segment = index, bytes(data.segment)
            there = [segment.id for segment in segments if isinstance(segment, _Segment)]
            lacking = {id_: json for id_, json in lacking.items() if id_ not in there}
    if not lacking:
        return None
    segments = list(lacking.values())
    data = b"%b%b%b" % (offer.head, b",".join(segments), offer.tail)
    return Addition(data, segments, at, at_segment)


def _array_in(raw: Raw, decode: Callable[[Raw], Any]) -> list[Any] | None:
    """Decode what should be an array; empty if it is missing or null, `None` if it is none."""
    if raw is ABSENT:
        return []
    try:
        value = decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    if value is None:
        return []
    return value if isinstance(value, list) else None
