"""
What we would add to a bid request: proposed here, applied by the answer forms.

One `Data` per partner (3.2.21). A `Data` is told apart by its id and `ext.segtax`, by
which its segments' ids mean what they mean. Where the request carries one of that id and segtax
already, what is there stays, and the segments that it lacks are appended;
otherwise ours is appended to `user.data`, behind all others. A segment's
`name` and `value` are never shown.

An id that is written as an integer is the text of its digits.

Garbage stays where it is: an element of `user.data` that is no object, or a
`Data` of our id whose `segment` is no array, is left alone, and ours goes
beside it. Only where `user.data` itself is of a wrong type there is nowhere to
put a segment. (A `user` of a wrong type has lost its signals, and was refused.)
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, final

import msgspec
from msgspec import Raw
from mypy_extensions import mypyc_attr

from rtb.openrtb.members import elements_of, value_in
from rtb.openrtb.request import Request
from rtb.openrtb.views import Data, DataExt, Odd, OddList, Segment
from rtb.outcome import Reason


@final
@mypyc_attr(acyclic=True)
class Offer:
    """
    What one partner has to show of a person.

    Attributes:
        data_id: `Data.id`.
        segtax: `Data.ext.segtax`; `None` if it has none.
        head: Rendered, `{"id":...,"name":...,"segment":[`.
        tail: Rendered, `]` and what follows.
        segment_id_to_json: The segments, rendered.
    """

    __slots__ = ("data_id", "head", "segment_id_to_json", "segtax", "tail")

    def __init__(
        self,
        data_id: str,
        segtax: int | None,
        head: bytes,
        tail: bytes,
        segment_id_to_json: dict[str, bytes],
    ) -> None:
        self.data_id: Final = data_id
        self.segtax: Final = segtax
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
_decode_any: Final = msgspec.json.Decoder().decode
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
        if (
            isinstance(data, Data)
            and _text_of(data.id) == offer.data_id
            and _segtax_of(data) == offer.segtax
        ):
            segment = bytes(data.segment)
            segments = _array_in(segment, _decode_segments)
            if segments is None:
                continue
            if at is None:
                at, at_segment = index, segment
            there = [_text_of(each.id) for each in segments if isinstance(each, Segment)]
            lacking = {id_: json for id_, json in lacking.items() if id_ not in there}
    if not lacking:
        return None
    segments = list(lacking.values())
    data = b"".join((offer.head, b",".join(segments), offer.tail))
    return Addition(data, segments, at, at_segment)


def _text_of(id_: Any) -> Any:
    """Return an id as we compare it: an integer's digits."""
    # Not a longer one: it takes a time that grows with the square of its digits.
    return str(id_) if type(id_) is int and -_MOST < id_ < _MOST else id_


_MOST: Final = 10**256


def _segtax_of(data: Data) -> Any:
    return data.ext.segtax if isinstance(data.ext, DataExt) else None


def _array_in(raw: bytes, decode: Callable[[bytes], Any]) -> list[Any] | None:
    """Decode what should be an array; empty if it is missing or null, `None` if it is none."""
    if not raw:
        return []
    try:
        value = decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return _array_of_text(raw, decode)
    if value is None:
        return []
    return value if isinstance(value, list) else None


def _array_of_text(raw: bytes, decode: Callable[[bytes], Any]) -> list[Any] | None:
    """Decode an array element by element; one that can't be decoded is what its members say."""
    if not raw.startswith(b"["):
        return None
    array: list[Any] = []
    try:
        for element in elements_of(raw):
            array += _decoded(element, decode)
    except (ValueError, RecursionError):
        return None
    return array


def _decoded(element: bytes, decode: Callable[[bytes], Any]) -> list[Any]:
    try:
        one: list[Any] = decode(b"[%b]" % element)
    except msgspec.DecodeError:
        if not element.startswith(b"{"):
            return [None]
        # Of the members that we read, those that can be decoded.
        said = [
            b'"%b":%b' % (name, value)
            for name in (b"id", b"segment", b"ext")
            if (value := value_in(element, name.decode())) is not None and _is_readable(value)
        ]
        one = decode(b"[{%b}]" % b",".join(said))
        segment = value_in(element, "segment")
        if isinstance(one[0], Data) and segment is not None:
            one = [Data(one[0].id, Raw(segment), one[0].ext)]
    return one


def _is_readable(value: bytes) -> bool:
    try:
        _decode_any(value)
    except msgspec.DecodeError:
        return False
    return True
