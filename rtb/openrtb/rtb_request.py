# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""
Reads the fields that we need of an ARTF `RTBRequest`, from its protobuf bytes.

    RTBRequest  1 lifecycle  2 id  3 tmax  4 bid_request  6 originator{2 id}  7 applicable_intents
    BidRequest  1 id  3 site  4 app  5 device  6 user  14 regs  22 dooh
    Site, App   11 publisher     Dooh  5 publisher     Publisher  1 id
    Device      1 dnt  20 ifa  23 lmt  99 ext{1 atts}
    User        2 buyeruid  8 data  10 consent  11 eids  99 ext{1 consent, 2 eids}
    EID         1 source  2 uids{1 id}     Data  1 id  3 segment{1 id}
    Regs        1 coppa  2 gpp  3 gpp_sid  4 gdpr  5 us_privacy  99 ext{1 gdpr, 2 us_privacy, 3 gpc}

The numbers are from `agenticrtbframework.proto` (IABTechLab/agentic-real-time-framework) and
`openrtb.proto`, edition 2023 (InteractiveAdvertisingBureau/openrtb2.x). Other fields are skipped by
length: we use a twentieth of the message. A message's reader stops at its wanted fields only, since
most fields are others.

Protobuf's rules hold: fields come in any order, the last value of a scalar counts, a message in
parts is merged, repeated integers may be packed. Site, app and dooh exclude each other, but each
may name the publisher of an opt-out.

Unlike in a generated reader, a privacy signal, or a message with signals, of the wrong wire type is
odd, not an unknown field. (In older copies of the IAB's file, `regs.gdpr` has the number of `gpp`.)
A signal that is not UTF-8 is odd too; such an id is ignored. Groups, which these files never had,
and varints of more than 64 bits are malformed.

Compiled by Cython if there is a C compiler: rtb_request.pxd has the types, this file the law.
"""

from typing import Any, Final

from rtb.outcome import MalformedRequest, Reason

_VARINT, _LENGTH = 0, 2
_MOST_TAG: Final = 0xFFFFFFFF
_LOW_HALF: Final = 0xFFFFFFFF
_SIGN: Final = 0x80000000


def _bits(*numbers: int) -> int:
    """Fields to stop at, as `_field` takes them."""
    return sum(1 << number for number in numbers)


_OF_RTB_REQUEST: Final = _bits(1, 2, 3, 4, 6, 7)
_OF_BID_REQUEST: Final = _bits(1, 3, 4, 5, 6, 14, 22)
_OF_DEVICE: Final = _bits(1, 20, 23)
_OF_DEVICE_EXT: Final = _bits(1)
_OF_USER: Final = _bits(2, 8, 10, 11)
_OF_USER_EXT: Final = _bits(1, 2)
_OF_EID: Final = _bits(1, 2)
_OF_DATA: Final = _bits(1, 3)
_OF_REGS: Final = _bits(1, 2, 3, 4, 5)
_OF_REGS_EXT: Final = _bits(1, 2, 3)


class _Said:
    """The fields read so far; absent is `None`, or -1 for a flag."""

    __slots__ = (
        "app",
        "atts",
        "buyeruid",
        "consent",
        "consent_25",
        "data",
        "dnt",
        "dooh",
        "has_bid_request_id",
        "ifa",
        "is_odd",
        "lmt",
        "regs",
        "site",
        "uids",
        "uids_25",
    )

    def __init__(self) -> None:
        self.has_bid_request_id = False
        self.is_odd = False
        self.dnt = -1
        self.lmt = -1
        self.atts: int | None = None
        self.ifa: str | None = None
        self.buyeruid: str | None = None
        self.consent: str | None = None
        self.consent_25: str | None = None
        self.site: str | None = None
        self.app: str | None = None
        self.dooh: str | None = None
        self.regs = b""
        self.uids: list[Any] = []
        self.uids_25: list[Any] = []
        self.data: list[bytes] = []


class _SaidOfRegs:
    """Likewise for `regs`; an absent `gpp_sid` is empty."""

    __slots__ = (
        "coppa",
        "gdpr",
        "gdpr_25",
        "gpc",
        "gpp",
        "gpp_sid",
        "is_odd",
        "us_privacy",
        "us_privacy_25",
    )

    def __init__(self) -> None:
        self.is_odd = False
        self.coppa: int | None = None
        self.gdpr: int | None = None
        self.gdpr_25: int | None = None
        self.gpc: str | None = None
        self.gpp: str | None = None
        self.gpp_sid: list[int] = []
        self.us_privacy: str | None = None
        self.us_privacy_25: str | None = None


def read_rtb_request(raw: bytes) -> tuple[Any, ...]:
    """
    Read an `RTBRequest`.

    Returns:
        A `rtb.openrtb.artf.Fields`.

    Raises:
        MalformedRequest: Not protobuf, as far as we look.
    """
    at, end = 0, len(raw)
    id_, originator, tmax, lifecycle = None, None, None, 0
    intents: list[int] = []
    said = _Said()
    while at < end:
        field, wire, value, start, at = _field(raw, at, end, _OF_RTB_REQUEST)
        if at < 0:
            raise _malformed()
        if wire == _LENGTH:
            if field == 2:
                id_ = _text(raw, start, at)
            elif field == 4:
                _read_bid_request(raw, start, at, said)
            elif field == 6:
                originator = _read_id_or(raw, start, at, 2, originator)
            elif field == 7:
                _add_packed(intents, raw, start, at)
        elif field == 4:
            said.is_odd = True
        elif wire == _VARINT:
            if field == 1:
                lifecycle = _int32(value)
            elif field == 3:
                tmax = _int32(value)
            elif field == 7:
                intents.append(_int32(value))
    return (
        id_,
        lifecycle,
        tmax,
        originator,
        intents,
        said.has_bid_request_id,
        said.uids + said.uids_25 if said.uids_25 else said.uids,
        said.consent,
        said.consent_25,
        said.buyeruid,
        said.ifa,
        said.site,
        said.app,
        said.dooh,
        said.lmt,
        said.dnt,
        said.atts,
        said.regs,
        said.data,
        said.is_odd,
    )


def read_regs(raw: bytes) -> tuple[Any, ...]:
    """
    Read a `Regs`, or the bytes of several in a row, which protobuf merges.

    Returns:
        A `rtb.openrtb.artf.RegsFields`.

    Raises:
        MalformedRequest: Not protobuf.
    """
    at, end = 0, len(raw)
    said = _SaidOfRegs()
    while at < end:
        field, wire, value, start, at = _field(raw, at, end, _OF_REGS)
        if at < 0:
            raise _malformed()
        if field == 1:
            said.coppa = _flag(wire, value)
            said.is_odd = said.is_odd or said.coppa is None
        elif field == 4:
            said.gdpr = _flag(wire, value)
            said.is_odd = said.is_odd or said.gdpr is None
        elif field == 2:
            said.gpp = _text_of(raw, start, at, wire)
            said.is_odd = said.is_odd or said.gpp is None
        elif field == 5:
            said.us_privacy = _text_of(raw, start, at, wire)
            said.is_odd = said.is_odd or said.us_privacy is None
        elif field == 3 and wire == _LENGTH:
            _add_packed(said.gpp_sid, raw, start, at)
        elif field == 3 and wire == _VARINT:
            said.gpp_sid.append(_int32(value))
        elif field == 99 and wire == _LENGTH:
            _read_regs_ext(raw, start, at, said)
        elif field in {3, 99}:
            said.is_odd = True
    return (
        said.coppa,
        said.gdpr,
        said.gdpr_25,
        said.us_privacy,
        said.us_privacy_25,
        said.gpp,
        said.gpp_sid,
        said.gpc,
        said.is_odd,
    )


def _read_regs_ext(raw: bytes, at: int, end: int, said: _SaidOfRegs) -> None:
    while at < end:
        field, wire, value, start, at = _field(raw, at, end, _OF_REGS_EXT)
        if at < 0:
            raise _malformed()
        if field == 1:
            said.gdpr_25 = _flag(wire, value)
            said.is_odd = said.is_odd or said.gdpr_25 is None
        elif field == 2:
            said.us_privacy_25 = _text_of(raw, start, at, wire)
            said.is_odd = said.is_odd or said.us_privacy_25 is None
        elif field == 3:
            said.gpc = _text_of(raw, start, at, wire)
            said.is_odd = said.is_odd or said.gpc is None


def read_data(raw: bytes) -> tuple[str | None, list[str]]:
    """
    Read a `Data`.

    Returns:
        The id, `None` if missing or unreadable; the ids of the segments.

    Raises:
        MalformedRequest: Not protobuf.
    """
    at, end = 0, len(raw)
    id_ = None
    segment_ids = []
    while at < end:
        field, wire, _value, start, at = _field(raw, at, end, _OF_DATA)
        if at < 0:
            raise _malformed()
        if wire != _LENGTH:
            continue
        if field == 1:
            id_ = _text(raw, start, at)
        elif field == 3:
            text = _read_id_or(raw, start, at, 1, None)
            if text is not None:
                segment_ids.append(text)
    return id_, segment_ids


def _read_bid_request(raw: bytes, at: int, end: int, said: _Said) -> None:
    while at < end:
        field, wire, _value, start, at = _field(raw, at, end, _OF_BID_REQUEST)
        if at < 0:
            raise _malformed()
        if wire != _LENGTH:
            if field in {5, 6, 14}:
                said.is_odd = True
        elif field == 6:
            _read_user(raw, start, at, said)
        elif field == 5:
            _read_device(raw, start, at, said)
        elif field == 14:
            said.regs = said.regs + raw[start:at] if said.regs else raw[start:at]
        elif field == 1:
            said.has_bid_request_id = True
        elif field == 3:
            said.site = _read_publisher_of(raw, start, at, 11, said.site)
        elif field == 4:
            said.app = _read_publisher_of(raw, start, at, 11, said.app)
        elif field == 22:
            said.dooh = _read_publisher_of(raw, start, at, 5, said.dooh)


def _read_user(raw: bytes, at: int, end: int, said: _Said) -> None:
    while at < end:
        field, wire, _value, start, at = _field(raw, at, end, _OF_USER)
        if at < 0:
            raise _malformed()
        if field == 10:
            said.consent = _text_of(raw, start, at, wire)
            said.is_odd = said.is_odd or said.consent is None
        elif field == 99:
            if wire == _LENGTH:
                _read_user_ext(raw, start, at, said)
            else:
                said.is_odd = True
        elif wire == _LENGTH:
            if field == 11:
                _read_eid(raw, start, at, said.uids)
            elif field == 2:
                said.buyeruid = _text(raw, start, at)
            elif field == 8:
                said.data.append(raw[start:at])


def _read_user_ext(raw: bytes, at: int, end: int, said: _Said) -> None:
    while at < end:
        field, wire, _value, start, at = _field(raw, at, end, _OF_USER_EXT)
        if at < 0:
            raise _malformed()
        if field == 1:
            said.consent_25 = _text_of(raw, start, at, wire)
            said.is_odd = said.is_odd or said.consent_25 is None
        elif field == 2 and wire == _LENGTH:
            _read_eid(raw, start, at, said.uids_25)


def _read_eid(raw: bytes, at: int, end: int, uids: list[Any]) -> None:
    source = None
    first = len(uids)
    while at < end:
        field, wire, _value, start, at = _field(raw, at, end, _OF_EID)
        if at < 0:
            raise _malformed()
        if wire != _LENGTH:
            continue
        if field == 2:
            uid = _read_id_or(raw, start, at, 1, None)
            if uid is not None:
                uids.append((source, uid, None))
        elif field == 1:
            source = _text(raw, start, at)
            # For uids before this source or its last copy.
            for n in range(first, len(uids)):
                uids[n] = (source, uids[n][1], None)
    if source is None:
        del uids[first:]


def _read_device(raw: bytes, at: int, end: int, said: _Said) -> None:
    while at < end:
        field, wire, value, start, at = _field(raw, at, end, _OF_DEVICE)
        if at < 0:
            raise _malformed()
        if field == 20:
            if wire == _LENGTH:
                said.ifa = _text(raw, start, at)
        elif field in {1, 23}:
            if wire != _VARINT:
                said.is_odd = True
            elif field == 1:
                said.dnt = 1 if value else 0
            else:
                said.lmt = 1 if value else 0
        elif field == 99:
            if wire == _LENGTH:
                _read_device_ext(raw, start, at, said)
            else:
                said.is_odd = True


def _read_device_ext(raw: bytes, at: int, end: int, said: _Said) -> None:
    while at < end:
        field, wire, value, _start, at = _field(raw, at, end, _OF_DEVICE_EXT)
        if at < 0:
            raise _malformed()
        if field == 1:
            if wire == _VARINT:
                said.atts = _int32(value)
            else:
                said.is_odd = True


def _read_publisher_of(
    raw: bytes, at: int, end: int, number: int, before: str | None
) -> str | None:
    """`publisher.id` of a site, app or dooh; `before` without that field."""
    while at < end:
        field, wire, _value, start, at = _field(raw, at, end, 1 << number)
        if at < 0:
            raise _malformed()
        if field == number and wire == _LENGTH:
            before = _read_id_or(raw, start, at, 1, before)
    return before


def _read_id_or(raw: bytes, at: int, end: int, number: int, before: str | None) -> str | None:
    """A field's text, `None` if unreadable; `before` without that field."""
    while at < end:
        field, wire, _value, start, at = _field(raw, at, end, 1 << number)
        if at < 0:
            raise _malformed()
        if field == number and wire == _LENGTH:
            before = _text(raw, start, at)
    return before


def _add_packed(numbers: list[int], raw: bytes, at: int, end: int) -> None:
    while at < end:
        value, at = _varint(raw, at, end)
        if at < 0:
            raise _malformed()
        numbers.append(_int32(value))


def _flag(wire: int, value: int) -> int | None:
    """A bool as protobuf reads it: any number but 0 is 1; `None`: no number."""
    if wire != _VARINT:
        return None
    return 1 if value else 0


def _text_of(raw: bytes, at: int, end: int, wire: int) -> str | None:
    """A text; `None`: no text, or not UTF-8."""
    return _text(raw, at, end) if wire == _LENGTH else None


def _text(raw: bytes, at: int, end: int) -> str | None:
    """A text; `None`: not UTF-8."""
    try:
        return raw[at:end].decode("utf-8")
    except UnicodeDecodeError:
        return None


def _int32(value: int) -> int:
    """A varint as int32 or enum: the lower half, signed."""
    low = value & _LOW_HALF
    return low - 2 * _SIGN if low >= _SIGN else low


def _field(raw: bytes, at: int, end: int, wanted: int) -> tuple[int, int, int, int, int]:
    """
    Read tags and skip values, up to the next wanted field or the end.

    Args:
        raw: The message.
        at: The start of a field.
        end: Of the fields.
        wanted: As of `_bits`; a number above 63, such as an `ext`'s, always is.

    Returns:
        Number and wire type; a varint's value; the value's start and end, -1 if malformed. Without
        a wanted field, the number is 0.
    """
    while at < end:
        key, at = _varint(raw, at, end)
        if at < 0 or key > _MOST_TAG or key < 8:
            break
        wire = key & 7
        value = 0
        start = at
        if wire == _LENGTH:
            size, start = _varint(raw, at, end)
            if start < 0 or size > end - start:
                break
            at = start + size
        elif wire == _VARINT:
            value, at = _varint(raw, at, end)
            if at < 0:
                break
        elif wire == 1 and end - at >= 8:
            at += 8
        elif wire == 5 and end - at >= 4:
            at += 4
        else:
            break
        key >>= 3
        if key > 63 or wanted >> key & 1:
            return key, wire, value, start, at
    else:
        return 0, 0, 0, end, end
    return 0, 0, 0, 0, -1


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of at most 64 bits, and its end: -1 if malformed."""
    value = 0
    shift = 0
    while at < end:
        byte = raw[at]
        at += 1
        if byte < 128:
            if shift == 63 and byte > 1:
                break
            return value | byte << shift, at
        if shift == 63:
            break
        value |= (byte & 127) << shift
        shift += 7
    return 0, -1


def _malformed() -> MalformedRequest:
    return MalformedRequest(Reason.NOT_PROTOBUF)
