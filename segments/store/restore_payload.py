"""
A new bucket as a payload for RESTORE.

    payload    | 0x10 | 0x80 | length, BE 32 | listpack | 10, LE 16 | CRC-64, LE |
                 a hash of listpack encoding              RDB version

    listpack   | bytes, LE 32 | entries, LE 16 | field | record | field | record | ... | 0xff |

    entry      | 0x80 + length      | bytes | size of the preceding part |    up to 63 bytes
               | 0xe0 + length, 12 bits BE | bytes | likewise            |    up to 4095
               | 0xf0 | length, LE 32 | bytes | likewise                 |    longer

RESTORE without REPLACE makes a whole bucket, or fails if it exists: an atomic merge into nothing,
without a script. HSET searches for each field among those before. Measured, for a bucket of 122 in
Valkey: 0.14 to 0.24 µs a row, by the merge script 1.3 to 1.5, by HSET alone 0.75.

RDB version 10 is that of Redis 7.0, our oldest server and the first with listpacks; later Redis and
Valkey read it, too. The server trusts all but the CRC, so no field may occur twice. It would pack
number-like fields more tightly; both forms compare equal.
"""

import struct
from collections.abc import Sequence

from anycrc import Model

from segments.store.keys import FIELD_BYTES
from segments.store.meta import LISTPACK_VALUE_BYTES

MAX_RECORD_BYTES = LISTPACK_VALUE_BYTES
"""The server would convert a hash with a longer value to another encoding."""

FIELD_HEAD = bytes([0x80 | FIELD_BYTES])
"""Precedes the bytes of a field."""

_FIELD_BACK = bytes([1 + FIELD_BYTES])
_UNCOUNTED = 0xFFFF
"""From this count on, readers count entries themselves."""

_HASH_OF_LISTPACK = 16
_LENGTH_OF_32_BITS = 0x80
_RDB_VERSION = 10
_HEAD = struct.Struct("<IH")
_END = b"\xff"

_SHORT = 1 << 6
_SHORT_HEADS = [bytes([0x80 | size]) for size in range(_SHORT)]
_SHORT_BACKS = [bytes([size + 1]) for size in range(_SHORT)]
_SHORT_RECORD_HEADS = [_FIELD_BACK + head for head in _SHORT_HEADS]

_crc64 = Model("CRC64-REDIS").calc


def record_entry(record: bytes) -> bytes:
    """Return the part of a payload after a field with this record."""
    size = len(record)
    if size < _SHORT:
        return _SHORT_RECORD_HEADS[size] + record + _SHORT_BACKS[size]
    return _FIELD_BACK + _entry(record)


def payload_of(fields: Sequence[bytes], entries: Sequence[bytes]) -> bytes:
    """
    Return the payload of a bucket with distinct fields, and the `record_entry` of each.

    The server converts a bucket that exceeds the listpack limits.
    """
    # Slices and one join: a third of a loop's time.
    pieces = [FIELD_HEAD] * (3 * len(fields))
    pieces[1::3] = fields
    pieces[2::3] = entries
    return framed(b"".join(pieces), 2 * len(fields))


def framed(entries: bytes | memoryview, count: int) -> bytes:
    """Return the payload of some entries, `count` in all: two for each field."""
    size = _HEAD.size + len(entries) + len(_END)
    payload = b"".join(
        (
            bytes((_HASH_OF_LISTPACK, _LENGTH_OF_32_BITS)),
            size.to_bytes(4),
            _HEAD.pack(size, min(count, _UNCOUNTED)),
            entries,
            _END,
            _RDB_VERSION.to_bytes(2, "little"),
        )
    )
    crc: int = _crc64(payload)
    return payload + crc.to_bytes(8, "little")


def _entry(content: bytes) -> bytes:
    size = len(content)
    if size < _SHORT:
        return _SHORT_HEADS[size] + content + _SHORT_BACKS[size]
    is_long = size >= 1 << 12
    head = b"\xf0" + size.to_bytes(4, "little") if is_long else (0xE000 | size).to_bytes(2)
    return head + content + _back(size + len(head))


def _back(size: int) -> bytes:
    """A size for backward reading: seven bits a byte, all but the first marked."""
    digits = [size & 0x7F]
    while size := size >> 7:
        digits.append(size & 0x7F)
    return bytes([digits[-1], *(0x80 | digit for digit in digits[-2::-1])])
