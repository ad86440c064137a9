"""
The full-request answer: the body as received, with our segments in `user.data`.

Other bytes leave unchanged; in `rtb.openrtb.splice`'s exceptions, other values.
"""

from collections.abc import Iterable

from rtb.openrtb.additions import Addition, Additions
from rtb.openrtb.members import elements_of
from rtb.openrtb.splice import appended, place_of, placed


def inject(body: bytes, additions: Additions) -> bytes:
    """
    Apply the additions to their request.

    Args:
        body: The request as it leaves.
        additions: Proposed for exactly these bytes.
    """
    user, user_data = additions.user, additions.user_data
    new = [addition.data for addition in additions.each if addition.at is None]
    is_all_new = len(new) == len(additions.each)
    if is_all_new:
        # Usually insert at the end of the array, or of the user without an array.
        end = _end_of_data(body, additions)
        if end:
            comma = b"," if user_data[1:-1].strip() else b""
            return b"".join((body[:end], comma, b",".join(new), body[end:]))
        end = additions.request.user_end - 1
        if end >= 0 and not user_data:
            comma = b"," if user[1:-1].strip() else b""
            return b"".join((body[:end], comma, b'"data":[', b",".join(new), b"]", body[end:]))
    changed = user_data if is_all_new else _completed(user_data, additions.each)
    if new:
        changed = appended(changed, new)
    # Create a missing or null user, with only our data.
    has_user = user.startswith(b"{")
    changed = placed(user, "data", user_data, changed) if has_user else b'{"data":%b}' % changed
    return placed(body, "user", user, changed)


def _end_of_data(body: bytes, additions: Additions) -> int:
    """Return the position of the closing bracket of `user.data`; 0 if none, or not found."""
    request, user_data = additions.request, additions.user_data
    if request.data_end:
        return request.data_end - 1
    if request.is_scanned or not user_data.startswith(b"["):
        return 0
    at_user, at_data = place_of(request.user_raw, body), place_of(user_data, request.user_raw)
    return at_user + at_data + len(user_data) - 1 if at_user >= 0 and at_data >= 0 else 0


def _completed(user_data: bytes, each: Iterable[Addition]) -> bytes:
    """Append to our partners' elements of `user.data`."""
    elements = elements_of(user_data)
    for addition in each:
        at = addition.at
        if at is not None:
            segments = appended(addition.present, addition.segments)
            elements[at] = placed(elements[at], "segment", addition.present, segments)
    return b"[%b]" % b",".join(elements)
