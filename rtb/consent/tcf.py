"""
May we, by the person's choice under GDPR? The TC string, version 2.

Fields read, by offset ("Consent string and vendor list formats v2", IAB Tech Lab). In the core, up
to the first dot:

    bit    bits  field
      0       6  Version, 2
      6      36  Created, tenths of a second since 1970
    152      24  PurposesConsent, purpose 1 first
    213          the vendors with consent: `rtb.consent.vendor_section`
     ..          the vendors of legitimate interest: skipped
     ..      12  NumPubRestrictions, each
                     { PurposeId (6), RestrictionType (2), NumEntries (12), entries }

We rely on consent: the publisher restrictions "not allowed" (0) and "require legitimate interest"
(2) for us and our purpose refuse; "require consent" (1) does not. Restrictions end the core, so a
truncated string, which may lack the refusal, is unreadable.

Segments follow, each after a dot: SegmentType (3 bits), content. Type 1 lists the vendors disclosed
to the person, since TCF 2.3, mandatory from 1 March 2026 (the day from which we require it is
configured). Consent needs disclosure: each such segment must be readable and name us. Other types
are ignored.

Parsing takes time in proportion to the length only for ranges and restrictions.
"""

from collections.abc import Iterable
from typing import NamedTuple

from rtb.consent.base64url import unfold
from rtb.consent.vendor_section import HEAD_BITS, NOBODY, bits_at, read_section, text_of, walk
from rtb.outcome import Reason

MAX_CHARS = 16_384
MAX_RESTRICTIONS = 256
"""Pairs of a purpose and a type."""

PURPOSES = range(1, 25)
VENDORS = range(1, 1 << 16)

DISCLOSED_ALWAYS_DS = 0
DISCLOSED_IF_PRESENT_DS = 1 << 36
"""Later than any `Created`."""

_VERSION = 2
_LEAST_BYTES = 33  # 230 bits, then an empty LI section (17) and no restriction (12)
_CONSENTS_AT = 213
_REQUIRE_CONSENT = 1

_TYPE_BITS = 3
_OF_DISCLOSED = frozenset("IJKLMNOP")
"""First characters of type 1: 001, then any three bits."""
_OF_OTHERS = frozenset("QRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
"""Without type 0, another core: some decoders take the last."""

# Once: see rtb.consent.signal.
_NONE, _UNREADABLE, _PURPOSE, _VENDOR, _RESTRICTED, _DISCLOSED = (
    Reason.NONE,
    Reason.TCF_UNREADABLE,
    Reason.TCF_NO_PURPOSE,
    Reason.TCF_NO_VENDOR,
    Reason.TCF_RESTRICTED,
    Reason.TCF_NOT_DISCLOSED,
)


class Vendor(NamedTuple):
    """
    Our entry on the Global Vendor List, and needed consent.

    Attributes:
        number: The vendor id.
        text: The same id as text of 16 bits.
        purposes: Bits, as the 24 of PurposesConsent.
        disclosed_from_ds: Strings from then on must disclose vendors; tenths of a second since
            1970, as `Created`.
    """

    number: int
    text: str
    purposes: int
    disclosed_from_ds: int

    @classmethod
    def of(cls, number: int, purposes: Iterable[int], disclosed_from_ds: int) -> "Vendor":
        """
        Make the value from numbers.

        Raises:
            ValueError: `number` is not of `VENDORS`, or a purpose not of `PURPOSES`.
        """
        bits = 0
        for purpose in purposes:
            if purpose not in PURPOSES:
                raise ValueError("a purpose is a number from 1 to 24")
            bits |= 1 << (24 - purpose)
        if number not in VENDORS:
            raise ValueError("a vendor id is a number from 1 to 65535")
        return cls(number, f"{number:016b}", bits, disclosed_from_ds)


def refusal_of_tc_string(text: str, vendor: Vendor) -> Reason:
    """Return a TC string's refusal; `Reason.NONE` permits."""
    if len(text) > MAX_CHARS:
        return _UNREADABLE
    segments = ""
    dot = text.find(".")
    if dot >= 0:
        segments = text[dot + 1 :]
        text = text[:dot]
    core = unfold(text)
    if core is None or len(core) < _LEAST_BYTES or core[0] >> 2 != _VERSION:
        return _UNREADABLE
    purposes = vendor.purposes
    if int.from_bytes(core[19:22], "big") & purposes != purposes:
        return _PURPOSE

    said_bits = 6 * len(text)
    is_named, at = read_section(core, _CONSENTS_AT, said_bits, vendor.number, vendor.text)
    if at > said_bits:
        return _UNREADABLE
    if not is_named:
        return _VENDOR
    return _refusal_of_restrictions(core, at, said_bits, vendor) or _refusal_of_segments(
        segments, int.from_bytes(core[:6], "big") >> 6 & 0xF_FFFF_FFFF, vendor
    )


def _refusal_of_restrictions(core: bytes, at: int, said_bits: int, vendor: Vendor) -> Reason:
    """Skip legitimate interest, then read the restrictions."""
    _, at = read_section(core, at, said_bits, vendor.number, NOBODY)
    if at + 12 > said_bits:
        return _UNREADABLE
    count = bits_at(core, at, 12)
    if not count:
        return _NONE
    if count > MAX_RESTRICTIONS:
        return _UNREADABLE
    bits = text_of(core, at + 12, said_bits)
    at = 0
    refusal = _NONE
    for _ in range(count):
        if at + 20 > len(bits):
            return _UNREADABLE
        restriction = int(bits[at : at + 20], 2)
        purpose, type_ = restriction >> 14, restriction >> 12 & 3
        # This purpose's bit moves to bit 24.
        is_ours = type_ != _REQUIRE_CONSENT and vendor.purposes << purpose & 1 << 24
        is_named, at = walk(bits, at + 20, restriction & 0xFFF, vendor.text if is_ours else NOBODY)
        if is_named:
            refusal = _RESTRICTED
    return refusal if at <= len(bits) else _UNREADABLE


def _refusal_of_segments(text: str, created_ds: int, vendor: Vendor) -> Reason:
    """Read the segments after the core."""
    is_there = False
    refusal = _NONE
    for segment in text.split(".") if text else ():
        if not segment:
            continue
        if segment[0] not in _OF_DISCLOSED:
            if segment[0] not in _OF_OTHERS:
                return _UNREADABLE
            continue
        is_there = True
        disclosed = unfold(segment)
        said_bits = 6 * len(segment)
        if disclosed is None or said_bits < _TYPE_BITS + HEAD_BITS:
            return _UNREADABLE
        is_named, end = read_section(disclosed, _TYPE_BITS, said_bits, vendor.number, vendor.text)
        if end > said_bits:
            return _UNREADABLE
        if not is_named:
            refusal = _DISCLOSED
    if is_there or created_ds < vendor.disclosed_from_ds:
        return refusal
    return _DISCLOSED
