"""Protobuf written by hand, for what no runtime would write."""


def varint(value: int) -> bytes:
    """Write a number of any size."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """Write a varint field."""
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    """Write a field with a length: a text, or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def nested(*path: int, of: bytes) -> bytes:
    """Write a message inside of others, the outermost field first."""
    for field in reversed(path):
        of = text(field, of)
    return of


BID_REQUEST, USER, DEVICE, REGS, EXT = 4, 6, 5, 14, 99
BID_ID = nested(BID_REQUEST, of=text(1, b"b1"))
"""Of an `RTBRequest`: a bid request with an id, and nothing else."""
