"""
May we, by what the person told the consent banner under GDPR? The TC string, version 2.

Only what the decision needs is read, at its offset ("Consent string and vendor
list formats v2", IAB Tech Lab; the segment for the core, before the first dot):

    bit    bits  field
      0       6  Version, 2
    152      24  PurposesConsent, purpose 1 first
    213      16  MaxVendorConsentId
    229       1  IsRangeEncoding
    230          one bit a vendor, or NumEntries (12) and entries
                     { IsARange (1), StartOrOnlyVendorId (16), EndVendorId (16) if a range }
     ..          MaxVendorLIId and the same again for legitimate interest: skipped
     ..      12  NumPubRestrictions, each
                     { PurposeId (6), RestrictionType (2), NumEntries (12), entries }

We rely on consent. So of the publisher's restrictions, "not allowed" (0) and
"require legitimate interest" (2) refuse where they name one of our purposes
and us, and "require consent" (1) changes nothing. They end the core, so a string that
was cut short anywhere is known by that, and unreadable: what is missing may be
the no.

Nothing is allocated but a string of at most `MAX_CHARS` once more. Bit fields are read
in place; ranges and restrictions, which take time, may take `WINDOW_BITS` each.
Honest encoders write ranges only where they are shorter than a bit a vendor, and
the list has fewer than 1,500.
"""

from collections.abc import Iterable
from typing import NamedTuple

from rtb.consent.base64url import unfold
from rtb.outcome import Reason

MAX_CHARS = 4096
WINDOW_BITS = 2048
"""What the ranges of one field may take, and what all restrictions together."""
MAX_RESTRICTIONS = 40
"""Three of each of the eleven purposes, and some to spare."""

PURPOSES = range(1, 25)
VENDORS = range(1, 1 << 16)

_VERSION = 2
_LEAST_BYTES = 33  # 230 bits, then an empty LI section (17) and no restriction (12)
_REQUIRE_CONSENT = 1
_NOWHERE = 1 << 32  # beyond the end of any string
_NOBODY = "nobody"  # the text of no vendor: behind that of all

# Looked up once: see rtb.consent.signal.
_NONE, _UNREADABLE, _PURPOSE, _VENDOR, _RESTRICTED = (
    Reason.NONE,
    Reason.TCF_UNREADABLE,
    Reason.TCF_NO_PURPOSE,
    Reason.TCF_NO_VENDOR,
    Reason.TCF_RESTRICTED,
)


class Vendor(NamedTuple):
    """
    Who we are on the Global Vendor List, and what we need the person's consent for.

    Attributes:
        number: The vendor id.
        text: The same as the text of its 16 bits.
        purposes: A bit each, as the 24 of PurposesConsent.
    """

    number: int
    text: str
    purposes: int

    @classmethod
    def of(cls, number: int, purposes: Iterable[int]) -> "Vendor":
        """
        Make one.

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
        return cls(number, f"{number:016b}", bits)


def refusal_of_tc_string(text: str, vendor: Vendor) -> Reason:
    """Return why a TC string does not permit what we do; `Reason.NONE` if it does."""
    if len(text) > MAX_CHARS:
        return _UNREADABLE
    dot = text.find(".")
    if dot >= 0:
        text = text[:dot]
    core = unfold(text)
    if core is None or len(core) < _LEAST_BYTES or core[0] >> 2 != _VERSION:
        return _UNREADABLE
    purposes = vendor.purposes
    if int.from_bytes(core[19:22], "big") & purposes != purposes:
        return _PURPOSE

    said_bits = 6 * len(text)
    number = vendor.number
    head = int.from_bytes(core[26:29], "big")  # bits 208 to 231
    max_vendor = head >> 3 & 0xFFFF
    if number > max_vendor:
        return _VENDOR
    if head >> 2 & 1:
        is_named, at = _entries(core, 230, said_bits, vendor.text)
    else:
        at = 229 + number
        is_named = at < said_bits and bool(core[at >> 3] << (at & 7) & 0x80)
        at = 230 + max_vendor
    if at > said_bits:
        return _UNREADABLE
    return _refusal_of_rest(core, at, said_bits, vendor) if is_named else _VENDOR


def _refusal_of_rest(core: bytes, at: int, said_bits: int, vendor: Vendor) -> Reason:
    """Skip legitimate interest and read the restrictions of a string that consents so far."""
    li_head = _bits(core, at, 17)
    if li_head & 1:
        _, at = _entries(core, at + 17, said_bits, _NOBODY)
    else:
        at += 17 + (li_head >> 1)
    if at + 12 > said_bits:
        return _UNREADABLE
    count = _bits(core, at, 12)
    if not count:
        return _NONE
    if count > MAX_RESTRICTIONS:
        return _UNREADABLE
    bits = _text(core, at + 12, said_bits)
    at = 0
    refusal = _NONE
    for _ in range(count):
        if at + 20 > len(bits):
            return _UNREADABLE
        restriction = int(bits[at : at + 20], 2)
        purpose, type_ = restriction >> 14, restriction >> 12 & 3
        # Shifted so that the bit of this purpose is the one above all.
        is_ours = type_ != _REQUIRE_CONSENT and vendor.purposes << purpose & 1 << 24
        is_named, at = _walk(
            bits, at + 20, restriction & 0xFFF, vendor.text if is_ours else _NOBODY
        )
        if is_named:
            refusal = _RESTRICTED
    return refusal if at <= len(bits) else _UNREADABLE


def _entries(core: bytes, at: int, said_bits: int, vendor: str) -> tuple[bool, int]:
    """Read NumEntries and go through the entries; returns as `_walk` does."""
    if at + 12 > said_bits:
        return False, _NOWHERE
    bits = _text(core, at + 12, said_bits)
    is_named, length = _walk(bits, 0, _bits(core, at, 12), vendor)
    return is_named, at + 12 + length if length <= len(bits) else _NOWHERE


def _walk(bits: str, at: int, count: int, vendor: str) -> tuple[bool, int]:
    """
    Go through entries.

    Args:
        bits: From which they are read.
        at: Where the first one begins.
        count: How many there are said to be.
        vendor: The text of the id to look for; `_NOBODY` to go through only.

    Returns:
        Whether an entry names the vendor, and where they end: beyond the end
        of the bits if there are too few of them, or a range ends before it starts.
    """
    is_named = False
    try:
        for _ in range(count):
            if bits[at] == "0":
                if bits.startswith(vendor, at + 1):
                    is_named = True
                at += 17
            else:
                # Of one length, so the order of the texts is that of the numbers.
                first, last = bits[at + 1 : at + 17], bits[at + 17 : at + 33]
                if first > last:
                    return False, _NOWHERE
                if first <= vendor <= last:
                    is_named = True
                at += 33
    except IndexError:
        return False, _NOWHERE
    return is_named, at


def _text(core: bytes, at: int, said_bits: int) -> str:
    """Return the bits from one on as text, as far as they were said, and `WINDOW_BITS` at most."""
    start = at >> 3
    window = core[start : start + WINDOW_BITS // 8]
    # A leading one keeps the zeros, and goes with `0b`.
    return bin(int.from_bytes(b"\1" + window, "big"))[3 + (at & 7) : 3 + said_bits - 8 * start]


def _bits(core: bytes, at: int, count: int) -> int:
    """Read a number; what lies beyond the end reads as nothing, so mind the end yourself."""
    last = (at + count + 7) >> 3
    read = int.from_bytes(core[at >> 3 : last], "big") >> (8 * last - at - count)
    return read & ((1 << count) - 1)
