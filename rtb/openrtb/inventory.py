"""Whose inventory an impression is on: `site`, `app` or `dooh`, and the publisher of it."""

from typing import Final

import msgspec

from rtb.openrtb.request import Request
from rtb.openrtb.views import ABSENT, Inventory, Odd, Publisher

_decode: Final = msgspec.json.Decoder(Inventory | Odd).decode


def publisher_ids(request: Request) -> set[str]:
    """
    Return `publisher.id` of `site`, `app` and `dooh` (3.2.13-15, 3.2.32).

    Asked only for a person who told a publisher no, which is why these objects
    are decoded here and not with the rest.

    Returns:
        One or none in a request as it should be; all of them in any other. An
        integer counts as its digits, for senders who write it so.
    """
    head = request.head
    ids = set()
    for raw in (head.site, head.app, head.dooh):
        if raw is ABSENT:
            continue
        try:
            inventory = _decode(raw)
        except (msgspec.DecodeError, RecursionError):
            continue
        publisher = inventory.publisher if isinstance(inventory, Inventory) else None
        if isinstance(publisher, Publisher) and isinstance(publisher.id, str | int):
            ids.add(str(publisher.id))
    return ids
