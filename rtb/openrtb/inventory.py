"""
The inventory of an impression: `site`, `app` or `dooh`, and its publisher.

Only Google's SegmentRequest has the publisher at the top, as `pub`.
"""

from rtb.openrtb.copies import UnreadableJson, led_to, pairs_of
from rtb.openrtb.request import Request

_PATHS = (*((place, "publisher", "id") for place in ("site", "app", "dooh")), ("pub", "id"))


def publisher_ids(request: Request) -> set[str] | None:
    """
    Return `publisher.id` of `site`, `app` and `dooh` (3.2.13-15, 3.2.32), and `pub.id`.

    Decodes each copy of these objects here, since only a person with an opt-out at a publisher
    needs them.

    Returns:
        One at most if valid; otherwise all. An integer counts as its digits, as some senders write.
        `None`: unreadable.
    """
    try:
        members = pairs_of(request.body) if request.copies is None else request.copies
    except (UnreadableJson, RecursionError):
        return None
    found = [id_ for path in _PATHS for id_ in led_to(members, path)]
    return {str(id_) for id_ in found if isinstance(id_, str | int)}
