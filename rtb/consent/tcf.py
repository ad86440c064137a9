"""
May we, by what the person told the consent banner under GDPR? The TC string, version 2.

Only what the decision needs is read, at its offset ("Consent string and vendor
list formats v2", IAB Tech Lab). Of the core, before the first dot:

    bit    bits  field
      0       6  Version, 2
      6      36  Created, tenths of a second since 1970
    152      24  PurposesConsent, purpose 1 first
    213          the vendors consented to: `rtb.consent.vendor_section`
     ..          the vendors of legitimate interest: skipped
     ..      12  NumPubRestrictions, each
                     { PurposeId (6), RestrictionType (2), NumEntries (12), entries }

We rely on consent. So of the publisher's restrictions, "not allowed" (0) and
"require legitimate interest" (2) refuse where they name one of our purposes
and us, and "require consent" (1) changes nothing. They end the core, so a string that
was cut short anywhere is known by that, and unreadable: what is missing may be
the no.

Behind the core, each after a dot, stand segments: SegmentType (3 bits), and what is of
that type. Type 1 lists the vendors that were disclosed to the person: every string has it
since TCF 2.3, obligatory from 1 March 2026 on. Who was not shown to the person can't have been
consented to, so each that is there must name us, and one that can't be read is a refusal. From
which day on one must be there is configured. Segments of other types have no say.

A string may have `MAX_CHARS`, and takes time in proportion to its length only where it
has ranges or restrictions.
"""

from collections.abc import Iterable
from typing import NamedTuple

from rtb.consent.base64url import unfold
from rtb.consent.vendor_section import HEAD_BITS, NOBODY, bits_at, read_section, text_of, walk
from rtb.outcome import Reason

MAX_CHARS = 16_384
MAX_RESTRICTIONS = 256
"""As many as there are pairs of a purpose and a type; one more would name a pair twice."""

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
"""What a segment of type 1 begins with: 001, and three more bits."""
_OF_OTHERS = frozenset("QRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
"""Type 0 is not among them, which would be another core, of which some decoders take the last."""

# Looked up once: see rtb.consent.signal.
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
    Who we are on the Global Vendor List, and what we need the person's consent for.

    Attributes:
        number: The vendor id.
        text: The same as the text of its 16 bits.
        purposes: A bit each, as the 24 of PurposesConsent.
        disclosed_from_ds: A string that was created then or later must say that we were
            disclosed; tenths of a second since 1970, as `Created`.
    """

    number: int
    text: str
    purposes: int
    disclosed_from_ds: int

    @classmethod
    def of(cls, number: int, purposes: Iterable[int], disclosed_from_ds: int) -> "Vendor":
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
        return cls(number, f"{number:016b}", bits, disclosed_from_ds)


def refusal_of_tc_string(text: str, vendor: Vendor) -> Reason:
    """Return why a TC string does not permit what we do; `Reason.NONE` if it does."""
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
    """Skip legitimate interest and read the restrictions of a string that consents so far."""
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
        # Shifted so that the bit of this purpose is the one above all.
        is_ours = type_ != _REQUIRE_CONSENT and vendor.purposes << purpose & 1 << 24
        is_named, at = walk(bits, at + 20, restriction & 0xFFF, vendor.text if is_ours else NOBODY)
        if is_named:
            refusal = _RESTRICTED
    return refusal if at <= len(bits) else _UNREADABLE


def _refusal_of_segments(text: str, created_ds: int, vendor: Vendor) -> Reason:
    """Read what stands behind the core."""
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
