"""Whose inventory an impression is on: `site`, `app` or `dooh`, and the publisher of it."""

from rtb.openrtb.copies import UnreadableJson, led_to, pairs_of
from rtb.openrtb.request import Request

_PATHS = tuple((place, "publisher", "id") for place in ("site", "app", "dooh"))


def publisher_ids(request: Request) -> set[str] | None:
    """
    Return `publisher.id` of `site`, `app` and `dooh` (3.2.13-15, 3.2.32).

    Asked only for a person who told a publisher no, which is why these objects
    are read here and not with the rest: each copy of them.

    Returns:
        One or none in a request as it should be; all of them in any other. An
        integer counts as its digits, for senders who write it so. `None` if they can't be
        read.
    """
    try:
        members = pairs_of(request.body) if request.copies is None else request.copies
    except (UnreadableJson, RecursionError):
        return None
    found = [id_ for path in _PATHS for id_ in led_to(members, path)]
    return {str(id_) for id_ in found if isinstance(id_, str | int)}
