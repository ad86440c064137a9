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

from collections.abc import Callable, Sequence
from typing import Any, Final, final

import msgspec
from mypy_extensions import mypyc_attr

from rtb.openrtb.request import Request
from rtb.openrtb.views import Data, Odd, OddList, Segment
from rtb.outcome import Reason


@final
@mypyc_attr(acyclic=True)
class Offer:
    """
    What one partner has to show of a person.

    Attributes:
        data_id: `Data.id`.
        head: Rendered, `{"id":...,"name":...,"segment":[`.
        tail: Rendered, `]` and what follows.
        segment_id_to_json: The segments, rendered.
    """

    __slots__ = ("data_id", "head", "segment_id_to_json", "tail")

    def __init__(
        self, data_id: str, head: bytes, tail: bytes, segment_id_to_json: dict[str, bytes]
    ) -> None:
        self.data_id: Final = data_id
        self.head: Final = head
        self.tail: Final = tail
        self.segment_id_to_json: Final = segment_id_to_json


@final
@mypyc_attr(acyclic=True)
class Addition:
    """
    One partner's segments that the request lacks.

    Attributes:
        data: A whole `Data` object with just these segments.
        segments: Each of them, rendered.
        at: The element of `user.data` to append them to; `None`: a new one.
        present: `segment` of that element as it stands; nothing if it has none.
    """

    __slots__ = ("at", "data", "present", "segments")

    def __init__(
        self, data: bytes, segments: list[bytes], at: int | None = None, present: bytes = b""
    ) -> None:
        self.data: Final = data
        self.segments: Final = segments
        self.at: Final = at
        self.present: Final = present


@final
@mypyc_attr(acyclic=True)
class Additions:
    """
    All that is to be added, and what stands where it goes.

    `user_data` and `present` above are the bytes as they stand in the
    body: an array, null, or nothing where the member is missing.
    """

    __slots__ = ("each", "request", "user_data")

    def __init__(self, request: Request, user_data: bytes, each: list[Addition]) -> None:
        self.request: Final = request
        self.user_data: Final = user_data
        self.each: Final = each

    @property
    def user(self) -> bytes:
        """`user` as it stands in the body: an object, null, or nothing where it is missing."""
        return self.request.user_raw


_decode_user_data: Final = msgspec.json.Decoder(list[Data | Odd] | OddList).decode
_decode_segments: Final = msgspec.json.Decoder(list[Segment | Odd] | OddList).decode


def additions(request: Request, offers: Sequence[Offer]) -> Additions | Reason:
    """
    Propose what to add to a request.

    Args:
        request: As it leaves; none of its parts is odd.
        offers: What the partners have to show; each at least one segment.

    Returns:
        The proposal; or why there is none: `ALREADY_THERE`, `UNPLACEABLE`.
    """
    user_data = request.user_data
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
    return Additions(request, user_data, each)


def _addition(offer: Offer, present: list[Any]) -> Addition | None:
    at, at_segment = None, b""
    lacking = offer.segment_id_to_json
    for index, data in enumerate(present):
        if isinstance(data, Data) and data.id == offer.data_id:
            segment = bytes(data.segment)
            segments = _array_in(segment, _decode_segments)
            if segments is None:
                continue
            if at is None:
                at, at_segment = index, segment
            there = [each.id for each in segments if isinstance(each, Segment)]
            lacking = {id_: json for id_, json in lacking.items() if id_ not in there}
    if not lacking:
        return None
    segments = list(lacking.values())
    data = b"".join((offer.head, b",".join(segments), offer.tail))
    return Addition(data, segments, at, at_segment)


def _array_in(raw: bytes, decode: Callable[[bytes], Any]) -> list[Any] | None:
    """Decode what should be an array; empty if it is missing or null, `None` if it is none."""
    if not raw:
        return []
    try:
        value = decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    if value is None:
        return []
    return value if isinstance(value, list) else None
