"""
The inventory of an impression: `site`, `app` or `dooh`, and its publisher.

Google's SegmentRequest has the publisher at the top, as `pub`; bid requests have no such member.
"""

from rtb.openrtb.copies import UnreadableJson, led_to, pairs_of
from rtb.openrtb.request import Request

_PATHS = (*((place, "publisher", "id") for place in ("site", "app", "dooh")), ("pub", "id"))


def publisher_ids(request: Request) -> set[str] | None:
    """
    Return `publisher.id` of `site`, `app` and `dooh` (3.2.13-15, 3.2.32), and `pub.id`.

    Called only for a person with an opt-out at a publisher, so these objects are decoded here
    and not with the rest: each copy of them.

    Returns:
        At most one id for a valid request; all ids otherwise. An integer counts as its digits,
        as some senders write them. `None` if unreadable.
    """
    try:
        members = pairs_of(request.body) if request.copies is None else request.copies
    except (UnreadableJson, RecursionError):
        return None
    found = [id_ for path in _PATHS for id_ in led_to(members, path)]
    return {str(id_) for id_ in found if isinstance(id_, str | int)}
