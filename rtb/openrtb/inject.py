"""
The full-request answer: the body that came, with our segments in `user.data`.

Only `user.data` is written; whatever else stands in the request leaves byte
for byte (`rtb.openrtb.splice` says how, and where it can't be more than value
for value).
"""

from msgspec import Raw, json

from rtb.openrtb.additions import Addition, Additions
from rtb.openrtb.splice import appended, placed

_elements = json.Decoder(list[Raw]).decode
_encode = json.Encoder().encode


def inject(body: bytes, additions: Additions) -> bytes:
    """
    Apply the additions to the request that they were proposed for.

    Args:
        body: The request as it leaves.
        additions: Proposed for just these bytes.
    """
    user, user_data = additions.user, additions.user_data
    changed = _with_segments(user_data, additions.each)
    new = [addition.data for addition in additions.each if addition.at is None]
    if new:
        changed = appended(changed, new)
    # A user that is missing or null is made, as one with nothing but our data.
    has_user = user.startswith(b"{")
    changed = placed(user, "data", user_data, changed) if has_user else b'{"data":%b}' % changed
    return placed(body, "user", user, changed)


def _with_segments(user_data: bytes, each: list[Addition]) -> bytes:
    """Append to those elements of `user.data` that are of our partners already."""
    elements = None
    for addition in each:
        at = addition.at
        if at is not None:
            elements = _elements(user_data) if elements is None else elements
            segments = appended(addition.present, addition.segments)
            merged = placed(bytes(elements[at]), "segment", addition.present, segments)
            elements[at] = Raw(merged)
    return user_data if elements is None else _encode(elements)
