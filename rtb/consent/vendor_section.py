"""
A list of vendors in a TC string: a bit field, or ranges of vendor ids.

The core has two lists, a segment of disclosed vendors a third ("Consent string and vendor list
formats v2", IAB Tech Lab):

    bits  field
      16  MaxVendorId
       1  IsRangeEncoding
          a bit for each vendor, or NumEntries (12) and entries
              { IsARange (1), StartOrOnlyVendorId (16), EndVendorId (16) if a range }

No limit on length: publisher restrictions have no bit field, and make valid strings of 12,000
characters. An entry of at least 17 bits is a single step.
"""

NOWHERE = 1 << 32
"""After the end of any string: an incomplete or invalid list."""
NOBODY = "nobody"
"""No vendor; sorts after all."""

HEAD_BITS = 17
_COUNT_BITS = 12
_RANGE_BITS = 33


def read_section(
    data: bytes, at: int, said_bits: int, number: int, vendor: str
) -> tuple[bool, int]:
    """
    Read a list of vendors.

    Args:
        data: The string, decoded.
        at: The bit at which MaxVendorId begins.
        said_bits: The string's bits, without padding.
        number: To look for.
        vendor: The same id as text of 16 bits; `NOBODY` to skip the list.

    Returns:
        Whether the list names the vendor; and the list's end, beyond `said_bits` if bits are
        missing, or a range ends before its start.
    """
    head = bits_at(data, at, HEAD_BITS)
    last = head >> 1
    at += HEAD_BITS
    if head & 1:
        is_named, at = _read_entries(data, at, said_bits, vendor if number <= last else NOBODY)
        return is_named, at
    bit = at + number - 1
    is_named = number <= last and bit < said_bits and bool(data[bit >> 3] << (bit & 7) & 0x80)
    return is_named, at + last


def _read_entries(data: bytes, at: int, said_bits: int, vendor: str) -> tuple[bool, int]:
    at += _COUNT_BITS
    if at > said_bits:
        return False, NOWHERE
    count = bits_at(data, at - _COUNT_BITS, _COUNT_BITS)
    bits = text_of(data, at, min(said_bits, at + _RANGE_BITS * count))
    is_named, length = walk(bits, 0, count, vendor)
    return is_named, at + length


def walk(bits: str, at: int, count: int, vendor: str) -> tuple[bool, int]:
    """
    Walk through entries.

    Args:
        bits: With the entries.
        at: Of the first entry.
        count: NumEntries.
        vendor: To look for; `NOBODY` to skip the entries.

    Returns:
        Whether an entry names the vendor; and the entries' end, else `NOWHERE`, as above.
    """
    is_named = False
    try:
        for _ in range(count):
            if bits[at] == "0":
                at += 17
                if bits[at - 16 : at] == vendor:
                    is_named = True
            else:
                # Texts of equal length sort as their numbers do.
                middle = at + 17
                first = bits[at + 1 : middle]
                at += 33
                last = bits[middle:at]
                if first > last:
                    return False, NOWHERE
                if first <= vendor <= last:
                    is_named = True
    except IndexError:
        return False, NOWHERE
    return (is_named, at) if at <= len(bits) else (False, NOWHERE)


def text_of(data: bytes, at: int, end: int) -> str:
    """Return the bits from `at` to `end`, as text."""
    start = at >> 3
    window = data[start : (end + 7) >> 3]
    # The leading 1 keeps the zeros; the slice drops it with `0b`.
    return bin(int.from_bytes(b"\1" + window, "big"))[3 + (at & 7) : 3 + end - 8 * start]


def bits_at(data: bytes, at: int, count: int) -> int:
    """Read a number; callers check that the data has the bits."""
    last = (at + count + 7) >> 3
    read = int.from_bytes(data[at >> 3 : last], "big") >> (8 * last - at - count)
    return read & ((1 << count) - 1)
