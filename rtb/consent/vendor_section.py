# cython: boundscheck=False, wraparound=False, cdivision=True
"""
The numbers of a TC string, and its lists of vendors: a bit field, or ranges of vendor ids.

The string is the result of `rtb.consent.base64url.sextets_of`: a byte for each character, with six
bits. Positions count these bits.

The core has two lists, a segment of disclosed vendors a third ("Consent string and vendor list
formats v2", IAB Tech Lab):

    bits  field
      16  MaxVendorId
       1  IsRangeEncoding
          a bit for each vendor, or NumEntries (12) and entries
              { IsARange (1), StartOrOnlyVendorId (16), EndVendorId (16) if a range }

No limit on length: publisher restrictions have no bit field, and make valid strings of 12,000
characters. An entry of at least 17 bits is a single step.

Compiled by Cython if there is a C compiler: vendor_section.pxd has the types, this file the law.
"""

_BITS = 6

NOWHERE = 1 << 32
"""After the end of any string: an incomplete or invalid list."""
NOBODY = 1 << 16
"""No vendor; larger than all."""

HEAD_BITS = 17
COUNT_BITS = 12
_ID_BITS = 16


def read_section(sextets: bytes, at: int, vendor: int) -> tuple[bool, int]:
    """
    Read a list of vendors.

    Args:
        sextets: The string.
        at: The bit at which MaxVendorId begins, within the string.
        vendor: The vendor id to look for; `NOBODY` to skip the list.

    Returns:
        Whether the list names the vendor; and the list's end, beyond the string's if bits are
        missing, or a range ends before its start.
    """
    end = _BITS * len(sextets)
    if at + HEAD_BITS > end:
        return False, NOWHERE
    last = bits_at(sextets, at, _ID_BITS)
    is_of_ranges = bits_at(sextets, at + _ID_BITS, 1)
    at += HEAD_BITS
    if is_of_ranges:
        if at + COUNT_BITS > end:
            return False, NOWHERE
        count = bits_at(sextets, at, COUNT_BITS)
        return walk(sextets, at + COUNT_BITS, count, vendor if vendor <= last else NOBODY)
    bit = at + vendor - 1
    is_named = vendor <= last and bit < end and bits_at(sextets, bit, 1) == 1
    return is_named, at + last


def walk(sextets: bytes, at: int, count: int, vendor: int) -> tuple[bool, int]:
    """
    Walk through entries.

    Args:
        sextets: The string.
        at: The bit at which the first entry begins.
        count: NumEntries.
        vendor: To look for; `NOBODY` to skip the entries.

    Returns:
        Whether an entry names the vendor; and the entries' end, else `NOWHERE`, as above.
    """
    end = _BITS * len(sextets)
    is_named = False
    for _ in range(count):
        if at + 1 + _ID_BITS > end:
            return False, NOWHERE
        is_range = bits_at(sextets, at, 1)
        first = bits_at(sextets, at + 1, _ID_BITS)
        last = first
        at += 1 + _ID_BITS
        if is_range:
            if at + _ID_BITS > end:
                return False, NOWHERE
            last = bits_at(sextets, at, _ID_BITS)
            at += _ID_BITS
            if first > last:
                return False, NOWHERE
        if first <= vendor <= last:
            is_named = True
    return is_named, at


def bits_at(sextets: bytes, at: int, count: int) -> int:
    """Read a number of 1 to 36 bits; callers check that the string has them."""
    number = 0
    end = at + count
    for n in range(at // _BITS, (end + _BITS - 1) // _BITS):
        number = number << _BITS | sextets[n]
    # The first character may begin before the number, and the last end after it.
    surplus = _BITS - 1 - (end + _BITS - 1) % _BITS
    return number >> surplus & (_ONE << count) - 1


_ONE = 1
