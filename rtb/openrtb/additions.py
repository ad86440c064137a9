"""
Segments to add to a bid request: proposed here, applied by the answer forms.

Each partner has a `Data` (3.2.21), identified by its id and `ext.segtax`, which define its segment
ids. Missing segments are appended to the request's `Data` of that id and segtax, whose content
stays; otherwise ours is appended to `user.data`. A segment's `name` and `value` are never sent.

An integer id counts as the text of its digits.

Garbage stays, and ours is added: an element of `user.data` that is no object, or a `Data` of our id
whose `segment` is no array. Only a `user.data` of the wrong type leaves no place. (A `user` of the
wrong type was refused.)
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, final

import msgspec
from msgspec import Raw
from mypy_extensions import mypyc_attr

from rtb.openrtb.members import elements_of, value_in
from rtb.openrtb.request import Request
from rtb.openrtb.rtb_request import read_data
from rtb.openrtb.views import Data, DataExt, Odd, OddList, Segment
from rtb.outcome import MalformedRequest, Reason


@final
@mypyc_attr(acyclic=True)
class Offer:
    """
    A partner's segments for a person.

    Attributes:
        data_id: `Data.id`.
        segtax: `Data.ext.segtax`; `None` if it has none.
        head: Rendered, `{"id":...,"name":...,"segment":[`.
        tail: Rendered, `]` and the end of the object.
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
    A partner's segments that the request lacks.

    Attributes:
        offer: The partner's offer.
        segment_id_to_json: The missing segments, rendered.
        at: The element of `user.data` to extend; `None`: new.
        present: Its `segment`, as in the body; may be empty.
    """

    __slots__ = ("at", "offer", "present", "segment_id_to_json")

    def __init__(
        self,
        offer: Offer,
        segment_id_to_json: dict[str, bytes],
        at: int | None = None,
        present: bytes = b"",
    ) -> None:
        self.offer: Final = offer
        self.segment_id_to_json: Final = segment_id_to_json
        self.at: Final = at
        self.present: Final = present

    @property
    def data(self) -> bytes:
        """A whole `Data` object with only these segments."""
        offer = self.offer
        return b"".join((offer.head, b",".join(self.segment_id_to_json.values()), offer.tail))

    @property
    def segments(self) -> list[bytes]:
        """The segments, rendered."""
        return list(self.segment_id_to_json.values())


@final
@mypyc_attr(acyclic=True)
class Additions:
    """
    All additions to a request, and their places' content.

    `user_data` here and `Addition.present` are bytes of the body: an array, null, or empty if
    the member is missing.
    """

    __slots__ = ("each", "request", "user_data")

    def __init__(self, request: Request, user_data: bytes, each: list[Addition]) -> None:
        self.request: Final = request
        self.user_data: Final = user_data
        self.each: Final = each

    @property
    def user(self) -> bytes:
        """`user` as in the body: an object, null, or empty if missing."""
        return self.request.user_raw


_encode: Final = msgspec.json.Encoder().encode
_decode_user_data: Final = msgspec.json.Decoder(list[Data | Odd] | OddList).decode
_decode_any: Final = msgspec.json.Decoder().decode
_decode_segments: Final = msgspec.json.Decoder(list[Segment | Odd] | OddList).decode


def additions(request: Request, offers: Sequence[Offer]) -> Additions | Reason:
    """
    Propose what to add to a request.

    Args:
        request: As it leaves; no part is odd.
        offers: The partners' segments; no offer is empty.

    Returns:
        The proposal; or `ALREADY_THERE` or `UNPLACEABLE`.
    """
    user_data = request.user_data
    messages = request.data_messages
    if messages is None:
        present = _array_in(user_data, _decode_user_data)
        if present is None:
            return Reason.UNPLACEABLE
    else:
        data_ids = [offer.data_id for offer in offers]
        present = [_data_of_message(message, data_ids) for message in messages]

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
    return Addition(offer, lacking, at, at_segment) if lacking else None


def _data_of_message(message: bytes, data_ids: list[str]) -> Data:
    """
    Return a protobuf `Data`, which has no place for a segtax, as in JSON.

    A message with another id, or an unreadable one, becomes an empty `Data`: no partner's.
    """
    try:
        data_id, segment_ids = read_data(message)
    except MalformedRequest:
        return _NO_DATA
    if data_id not in data_ids:
        return _NO_DATA
    segment = _encode([{"id": id_} for id_ in segment_ids])
    return Data(data_id, Raw(segment))


_NO_DATA: Final = Data()


def _text_of(id_: Any) -> Any:
    """Return an id for comparison: an integer as its digits."""
    # Not a longer integer: `str` takes time quadratic in the digits.
    return str(id_) if type(id_) is int and -_MOST < id_ < _MOST else id_


_MOST: Final = 10**256


def _segtax_of(data: Data) -> Any:
    return data.ext.segtax if isinstance(data.ext, DataExt) else None


def _array_in(raw: bytes, decode: Callable[[bytes], Any]) -> list[Any] | None:
    """Decode an array; empty if missing or null, `None` if no array."""
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
    """Decode an array by element; an undecodable element keeps its readable members."""
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
        # Keep the members that we read and can decode.
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
