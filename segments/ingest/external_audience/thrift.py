"""
Reads Thrift's compact protocol, in which Parquet has its metadata.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. Texts are
skipped: none bounds the cost of a file. No field costs more than its own bytes.
"""

from typing import Any

_MAX_DEPTH = 12
_LONG_LIST = 15

Structure = dict[int, Any]
"""Integers, structures, and lists of both, by field; `None` for skipped values."""


class ThriftUnreadable(Exception):
    """The bytes are not Thrift, or are cut short."""


def structure(raw: bytes, at: int = 0, depth: int = 0) -> tuple[Structure, int]:
    """
    Read a structure; return it and its end.

    Raises:
        ThriftUnreadable: See its docstring.
    """
    if depth > _MAX_DEPTH:
        raise ThriftUnreadable
    fields: Structure = {}
    number = 0
    while True:
        head = _byte(raw, at)
        at += 1
        if head == 0:
            return fields, at
        if head >> 4:
            number += head >> 4
        else:
            zigzag, at = _varint(raw, at)
            number = _signed(zigzag)
        kind = head & 0xF
        # True and false are kinds of fields, without bytes of their own.
        fields[number], at = (None, at) if kind in (1, 2) else _value(raw, at, kind, depth)


def _value(raw: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    match kind:
        case 1 | 2 | 3:  # true and false in a list, a byte
            return None, at + 1
        case 4 | 5 | 6:  # whole numbers
            zigzag, at = _varint(raw, at)
            return _signed(zigzag), at
        case 7:  # a floating-point number
            return None, at + 8
        case 8:  # bytes
            length, at = _varint(raw, at)
            return None, at + length
        case 9 | 10:
            return _list(raw, at, depth)
        case 12:
            return structure(raw, at, depth + 1)
        case _:  # Parquet has no maps
            raise ThriftUnreadable


def _list(raw: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    head = _byte(raw, at)
    count, at = head >> 4, at + 1
    if count == _LONG_LIST:
        count, at = _varint(raw, at)
    values = []
    for _ in range(count):
        if at >= len(raw):
            raise ThriftUnreadable
        value, at = _value(raw, at, head & 0xF, depth)
        values.append(value)
    return values, at


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = _byte(raw, at)
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ThriftUnreadable


def _signed(zigzag: int) -> int:
    return (zigzag >> 1) ^ -(zigzag & 1)


def _byte(raw: bytes, at: int) -> int:
    if at >= len(raw):
        raise ThriftUnreadable
    return raw[at]
