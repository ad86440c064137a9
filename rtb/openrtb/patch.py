"""
The JSON Patch answer (RFC 6902), for a host that keeps the request.

Each stripped path is a `remove`: otherwise bidders would get the hashed e-mail addresses in the
host's copy.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from rtb.openrtb.additions import Additions
from rtb.openrtb.splice import appended

_encode: Final = msgspec.json.Encoder().encode


def patch(additions: Additions | None, stripped: Sequence[str]) -> bytes:
    """
    Return the operations, in order, as a JSON array; empty: none.

    Args:
        additions: From the result; `None` unless enriched.
        stripped: Dotted paths that were removed.
    """
    operations = [b'{"op":"remove","path":%b}' % _encode(_pointer(path)) for path in stripped]
    if additions:
        operations += _operations(additions)
    return b"[%b]" % b",".join(operations) if operations else b""


def _operations(additions: Additions) -> list[bytes]:
    new = [addition.data for addition in additions.each if addition.at is None]
    if not additions.user.startswith(b"{"):
        return [_add(b"/user", b'{"data":%b}' % appended(b"", new))]
    if not additions.user_data.startswith(b"["):
        return [_add(b"/user/data", appended(b"", new))]
    operations = [_add(b"/user/data/-", data) for data in new]
    for addition in additions.each:
        if addition.at is None:
            continue
        path = b"/user/data/%d/segment" % addition.at
        if addition.present.startswith(b"["):
            operations += [_add(path + b"/-", segment) for segment in addition.segments]
        else:
            operations.append(_add(path, appended(b"", addition.segments)))
    return operations


def _add(path: bytes, value: bytes) -> bytes:
    return b'{"op":"add","path":"%b","value":%b}' % (path, value)


def _pointer(path: str) -> str:
    """Return a dotted path as a JSON pointer (RFC 6901, 3)."""
    return "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in path.split("."))
