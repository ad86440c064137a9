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

from rtb.consent.base64url import sextets_of
from rtb.consent.vendor_section import COUNT_BITS, NOBODY, bits_at, read_section, walk
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
_LEAST_CHARS = 44  # 230 bits, then an empty LI section (17) and no restriction (12)
_CREATED_AT, _CREATED_BITS = 6, 36
_PURPOSES_AT, _PURPOSES_BITS = 152, 24
_CONSENTS_AT = 213
_RESTRICTION_BITS = 20
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
        purposes: Bits, as the 24 of PurposesConsent.
        disclosed_from_ds: Strings from then on must disclose vendors; tenths of a second since
            1970, as `Created`.
    """

    number: int
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
        return cls(number, bits, disclosed_from_ds)


def refusal_of_tc_string(text: str, vendor: Vendor) -> Reason:
    """Return a TC string's refusal; `Reason.NONE` permits."""
    if len(text) > MAX_CHARS:
        return _UNREADABLE
    segments = ""
    dot = text.find(".")
    if dot >= 0:
        segments = text[dot + 1 :]
        text = text[:dot]
    core = sextets_of(text)
    if core is None or len(core) < _LEAST_CHARS or core[0] != _VERSION:
        return _UNREADABLE
    purposes = vendor.purposes
    if bits_at(core, _PURPOSES_AT, _PURPOSES_BITS) & purposes != purposes:
        return _PURPOSE

    is_named, at = read_section(core, _CONSENTS_AT, vendor.number)
    if at > 6 * len(core):
        return _UNREADABLE
    if not is_named:
        return _VENDOR
    return _refusal_of_restrictions(core, at, vendor) or _refusal_of_segments(
        segments, bits_at(core, _CREATED_AT, _CREATED_BITS), vendor
    )


def _refusal_of_restrictions(core: bytes, at: int, vendor: Vendor) -> Reason:
    """Skip legitimate interest, then read the restrictions."""
    end = 6 * len(core)
    _, at = read_section(core, at, NOBODY)
    if at + COUNT_BITS > end:
        return _UNREADABLE
    count = bits_at(core, at, COUNT_BITS)
    if count > MAX_RESTRICTIONS:
        return _UNREADABLE
    at += COUNT_BITS
    refusal = _NONE
    for _ in range(count):
        if at + _RESTRICTION_BITS > end:
            return _UNREADABLE
        restriction = bits_at(core, at, _RESTRICTION_BITS)
        purpose, type_ = restriction >> 14, restriction >> 12 & 3
        # This purpose's bit moves to bit 24.
        is_ours = type_ != _REQUIRE_CONSENT and vendor.purposes << purpose & 1 << 24
        is_named, at = walk(
            core,
            at + _RESTRICTION_BITS,
            restriction & 0xFFF,
            vendor.number if is_ours else NOBODY,
        )
        if is_named:
            refusal = _RESTRICTED
    return refusal if at <= end else _UNREADABLE


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
        disclosed = sextets_of(segment)
        if disclosed is None:
            return _UNREADABLE
        is_named, end = read_section(disclosed, _TYPE_BITS, vendor.number)
        if end > 6 * len(disclosed):
            return _UNREADABLE
        if not is_named:
            refusal = _DISCLOSED
    if is_there or created_ds < vendor.disclosed_from_ds:
        return refusal
    return _DISCLOSED
