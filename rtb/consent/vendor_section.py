"""
A list of vendors in a TC string: one bit a vendor, or ranges of vendor ids.

The core has two of them, and a segment of disclosed vendors is one ("Consent string
and vendor list formats v2", IAB Tech Lab):

    bits  field
      16  MaxVendorId
       1  IsRangeEncoding
          one bit a vendor, or NumEntries (12) and entries
              { IsARange (1), StartOrOnlyVendorId (16), EndVendorId (16) if a range }

Nothing is refused for its length: a publisher's restrictions have no bit field, and make
honest strings of 12,000 characters. The work is bounded by the string: an entry takes 17 bits
at least, and one step.
"""

NOWHERE = 1 << 32
"""An end beyond that of any string: what was to be read is not all there, or is none."""
NOBODY = "nobody"
"""The text of no vendor: behind that of all."""

HEAD_BITS = 17
_COUNT_BITS = 12
_RANGE_BITS = 33


def read_section(
    data: bytes, at: int, said_bits: int, number: int, vendor: str
) -> tuple[bool, int]:
    """
    Read a list of vendors.

    Args:
        data: The string, unfolded.
        at: The bit at which MaxVendorId begins.
        said_bits: How many bits of `data` were said.
        number: The vendor to look for.
        vendor: The same, as the text of its 16 bits; `NOBODY` to go through only.

    Returns:
        Whether the vendor is named, and where the list ends: beyond `said_bits` if it
        is not all there, or has a range that ends before it starts.
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
    Go through entries.

    Args:
        bits: From which they are read.
        at: Where the first one begins.
        count: How many there are said to be.
        vendor: The text of the id to look for; `NOBODY` to go through only.

    Returns:
        Whether an entry names the vendor, and where they end: `NOWHERE` if there are too
        few bits for them, or a range ends before it starts.
    """
    is_named = False
    try:
        for _ in range(count):
            if bits[at] == "0":
                at += 17
                if bits[at - 16 : at] == vendor:
                    is_named = True
            else:
                # Of one length, so the order of the texts is that of the numbers.
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
    """Return the bits from one on to another, as text."""
    start = at >> 3
    window = data[start : (end + 7) >> 3]
    # A leading one keeps the zeros, and goes with `0b`.
    return bin(int.from_bytes(b"\1" + window, "big"))[3 + (at & 7) : 3 + end - 8 * start]


def bits_at(data: bytes, at: int, count: int) -> int:
    """Read a number; what lies beyond the end reads as nothing, so mind the end yourself."""
    last = (at + count + 7) >> 3
    read = int.from_bytes(data[at >> 3 : last], "big") >> (8 * last - at - count)
    return read & ((1 << count) - 1)
