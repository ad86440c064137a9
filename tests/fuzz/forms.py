"""
Changes of an input that leave its form whole: JSON, base64url, lines, packets, archives.
"""

import base64
import gzip
import io
import json
import re
import string
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.fuzz.mutate import LARGE, NUMBERS

# JSON

_NULLS: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, 1.5, "", "1", "0", [], {}, [[]], [None], "é\u2028", "x" * 300,
    2**53 + 1, 1e300,
)  # fmt: skip
_DEEP = 400


class _Pairs(list[tuple[str, Any]]):
    """An object with its members in order, a name as often as it stands there."""


def json_splice(data: bytes, rng: Random, other: Callable[[], bytes]) -> bytes:
    """Change one value of a JSON text: to another one, to none, to two, or to what is odd."""
    try:
        root = json.loads(data, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return _spliced_text(data, rng)
    holder: list[Any] = [root]
    place, at = _place(holder, rng)
    value = _value(place, at)
    match rng.randrange(8):
        case 0:
            _put(place, at, rng.choice(_NULLS))
        case 1:
            _put(place, at, _from(other(), rng))
        case 2 if len(place) and place is not holder:
            del place[at]
        case 3 if isinstance(place, _Pairs):  # the name once more
            place.insert(rng.randrange(len(place) + 1), (place[at][0], _from(other(), rng)))
        case 4 if isinstance(place, _Pairs):
            place[at] = (rng.choice(_names(root) or ["x"]), value)
        case 5:
            _put(place, at, str(value) if not isinstance(value, str) else [value])
        case 6 if type(value) is list:
            value.extend([_from(other(), rng)] * rng.choice((1, 2, 40)))
        case _:
            place.insert(at, place[at])
    try:
        return _written(holder[0], rng.random() < 0.2, rng).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return data


def _spliced_text(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return (
        data[:at]
        + rng.choice((b"[", b"]", b"{", b"}", b",", b":", b'"', b"[" * _DEEP))
        + (data[at:])
    )


def _place(holder: list[Any], rng: Random) -> tuple[Any, int]:
    """Choose a value by walking down: its container, and where it stands there."""
    place: Any = holder
    while True:
        at = rng.randrange(len(place))
        value = _value(place, at)
        if not isinstance(value, list) or not value or rng.random() < 0.15:
            return place, at
        place = value


def _value(place: Any, at: int) -> Any:
    return place[at][1] if isinstance(place, _Pairs) else place[at]


def _put(place: Any, at: int, value: Any) -> None:
    place[at] = (place[at][0], value) if isinstance(place, _Pairs) else value


def _from(data: bytes, rng: Random) -> Any:
    try:
        found = json.loads(data, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return rng.choice(_NULLS)
    place, at = _place([found], rng)
    return _value(place, at)


def _names(value: Any) -> list[str]:
    found: list[str] = []
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, _Pairs):
            found += [name for name, _ in each]
            left += [value for _, value in each]
        elif isinstance(each, list):
            left += each
    return found


def _written(value: Any, is_odd: bool, rng: Random) -> str:
    """Write JSON; oddly, with blanks, names in escapes, and numbers as others write them."""
    blank = rng.choice((" ", "\n", "\t")) if is_odd else ""
    if isinstance(value, _Pairs):
        members = (
            f"{_name(name, is_odd, rng)}{blank}:{_written(each, is_odd, rng)}"
            for name, each in value
        )
        return "{" + f",{blank}".join(members) + blank + "}"
    if isinstance(value, list):
        return "[" + f",{blank}".join(_written(each, is_odd, rng) for each in value) + blank + "]"
    if is_odd and type(value) is int and abs(value) < 1 << 53:
        return rng.choice((f"{value}", f"{value}.0", f"{value}e0", f"{value}.00E+0"))
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def _name(name: str, is_odd: bool, rng: Random) -> str:
    if is_odd and name and rng.random() < 0.2:
        at = rng.randrange(len(name))
        before, behind = json.dumps(name[:at]), json.dumps(name[at + 1 :])
        return f"{before[:-1]}\\u{ord(name[at]) & 0xFFFF:04x}{behind[1:]}"
    return json.dumps(name)


# base64url, in parts between dots and tildes

_NO_BASE64 = bytes(set(range(256)) - set(string.ascii_letters.encode()) - set(b"0123456789-_"))
_WIDTHS = (1, 2, 3, 6, 12, 16, 17, 24, 36)


def base64url_bits(data: bytes, rng: Random, other: Callable[[], bytes]) -> bytes:
    """Change some bits of one part of a consent string."""
    parts = re.split(rb"([.~])", data)
    which = rng.randrange(len(parts))
    chars = parts[which].translate(None, _NO_BASE64)
    bits = 6 * len(chars)
    value = int.from_bytes(base64.urlsafe_b64decode(chars + b"A" * (-len(chars) % 4)), "big")
    value >>= 6 * (-len(chars) % 4)
    width = rng.choice(_WIDTHS)
    field = rng.choice((0, 1, 2, 3, 148, 149, -1, rng.getrandbits(width))) & (1 << width) - 1
    behind = rng.randrange(bits + 1)  # so many bits stand behind the place
    high, low = value >> behind, value & (1 << behind) - 1
    match rng.randrange(5):
        case 0:  # put between
            value, bits = (high << width | field) << behind | low, bits + width
        case 1:  # left out
            left = max(behind - width, 0)
            value, bits = high << left | low & (1 << left) - 1, bits - behind + left
        case 2:
            value ^= 1 << behind
        case _:  # written over
            left = max(behind - width, 0)
            value = (high << behind - left | field & (1 << behind - left) - 1) << left
            value |= low & (1 << left) - 1
    bits_written = bits + -bits % 24
    value = (value & (1 << bits) - 1) << -bits % 24
    written = base64.urlsafe_b64encode(value.to_bytes(bits_written // 8, "big"))
    parts[which] = written[: -(-bits // 6)]
    return b"".join(parts)


# Lines of cells


def line_splice(data: bytes, rng: Random, other: Callable[[], bytes]) -> bytes:
    """Change the order of lines, or a cell within one; or take either from another input."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.5:
        line = rng.choice((lines, other().split(b"\n")))
        match rng.randrange(3):
            case 0:
                lines.insert(at, rng.choice(line))
            case 1:
                lines[at : at + rng.randrange(3)] = []
            case _:
                lines[at] = rng.choice(line)
        return b"\n".join(lines)
    delimiter = max((b",", b";", b"\t", b"|"), key=data.count)
    cells = lines[at].split(delimiter)
    which = rng.randrange(len(cells))
    cell = rng.choice(rng.choice(other().split(b"\n")).split(delimiter))
    match rng.randrange(5):
        case 0:
            cells[which] = cell
        case 1:
            cells.insert(which, cell)
        case 2:
            del cells[which]
        case 3:
            cells[which] = b'"%b"' % cells[which].replace(b'"', b'""')
        case _:
            cells[which] = rng.choice((cells[which].upper(), b" %b " % cells[which], b"", b"1"))
    lines[at] = delimiter.join(cells)
    return b"\n".join(lines)


# Packets, each behind the four bytes of its length


def packets_of(data: bytes) -> list[bytes]:
    """Return what stands behind each length; what is cut short, too."""
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def packed(packets: Sequence[bytes]) -> bytes:
    """Put packets behind their lengths."""
    return b"".join(len(packet).to_bytes(4, "big") + packet for packet in packets)


def packet_splice(data: bytes, rng: Random, other: Callable[[], bytes]) -> bytes:
    """Change the order of packets, or a field within one; the lengths of packets stay true."""
    packets = packets_of(data) or [b""]
    at = rng.randrange(len(packets))
    match rng.randrange(6):
        case 0:
            packets.insert(at, rng.choice(packets_of(other()) or [b""]))
        case 1:
            del packets[at]
        case 2:
            packets.insert(rng.randrange(len(packets) + 1), packets[at])
        case 3:  # of another kind
            packets[at] = bytes((rng.choice((*range(21), 200, 255)),)) + packets[at][1:]
        case _:
            packet = packets[at]
            place = rng.randrange(len(packet) + 1)
            field = rng.choice((*NUMBERS, *LARGE)).to_bytes(8, "big")[-rng.choice((1, 4, 4, 8)) :]
            end = place if rng.random() < 0.3 else place + len(field)
            packets[at] = packet[:place] + field + packet[end:]
    return packed(packets)


# Archives


def within_gzip(data: bytes, rng: Random, other: Callable[[], bytes]) -> bytes:
    """Change what a .gz holds, or pack a text."""
    try:
        plain = gzip.decompress(data)
    except (OSError, EOFError, ValueError, ArithmeticError, Exception):  # noqa: BLE001
        plain = data
    changed = _changed(plain[: 1 << 16], rng)
    at = rng.randrange(len(changed) + 1) if rng.random() < 0.2 else len(changed)
    return b"".join(gzip.compress(part, 1, mtime=0) for part in (changed[:at], changed[at:]))


def within_zip(data: bytes, rng: Random, other: Callable[[], bytes]) -> bytes:
    """Pack a text as the one file of a .zip, by one of its methods, or beside another."""
    packed_file = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, 12, 14))
    with zipfile.ZipFile(packed_file, "w", method, compresslevel=1) as archive:
        plain = _changed(data[:4096], rng)
        archive.writestr(zipfile.ZipInfo(rng.choice(("a.txt", "b/", "__MACOSX/x"))), plain)
        if rng.random() < 0.1:
            archive.writestr(zipfile.ZipInfo(rng.choice(("c.txt", ".DS_Store"))), b"x")
    return packed_file.getvalue()


def _changed(plain: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(plain) + 1)
    return plain[:at] + rng.choice((b"", b"\n", b"\0", b"x", plain[:64])) + plain[at + 1 :]
