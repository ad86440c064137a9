"""
The load test's bid requests as calls of `GetMutations`, and the expected segments.

Protobuf has no field for some members, so requests that depend on one are left out: identifiers
known by `uid.ext` or `user.ext.hashes`, signals of the GPP in `regs.ext`, and a `Data` that is a
partner's only by its `segtax`. The bid's recipient is the call's originator.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from loadtest.artf.messages import rtb_request
from loadtest.population import PARTNERS, RECIPIENT_TO_PARTNERS, SEES_ALL
from loadtest.traffic import BidRequest, Traffic

PATH = "/com.iabtechlab.bidstream.mutation.services.v1.RTBExtensionPoint/GetMutations"

VARIABLES: Mapping[str, str] = {
    "RTB_ARTF_RECIPIENT": json.dumps({name: name for name in (SEES_ALL, *RECIPIENT_TO_PARTNERS)}),
    "RTB_ARTF_ID": "partner:segment",
}
"""The settings that a bid listener needs for these calls."""

FRAME_BYTES = 5
"""Before each message: compressed or not, and its length."""

TMAX_MS = 40
"""Of which a half is the service's: the usual cap, 20 ms."""

_ID_TO_PARTNER = {partner.public_id: partner for partner in PARTNERS}


def calls(
    traffic: Traffic, count: int, tmax_ms: int = TMAX_MS
) -> Iterator[tuple[BidRequest, bytes]]:
    """Yield the first requests that can be calls, each with its message."""
    index = made = 0
    while made < count:
        request = traffic.request(index)
        index += 1
        bid = json.loads(request.body)
        if _is_sayable(bid):
            made += 1
            yield request, message_of(request, tmax_ms, bid)


def message_of(
    request: BidRequest, tmax_ms: int = TMAX_MS, bid: dict[str, Any] | None = None
) -> bytes:
    """Return a request as an `RTBRequest`; `bid`: its body, if decoded already."""
    return rtb_request(
        json.loads(request.body) if bid is None else bid,
        id=f"r{request.index}",
        tmax=tmax_ms,
        lifecycle=1,
        originator={"id": request.recipient},
        applicable_intents=[1],
    )


def framed(message: bytes) -> bytes:
    """Return a message as the body of a call, uncompressed."""
    return b"\0" + len(message).to_bytes(FRAME_BYTES - 1) + message


def _is_sayable(bid: dict[str, Any]) -> bool:
    user = bid.get("user", {})
    ext = user.get("ext", {})
    uids = [uid for eid in (*user.get("eids", ()), *ext.get("eids", ())) for uid in eid["uids"]]
    return not (
        "hashes" in ext
        or any("stype" in uid.get("ext", {}) or "provider" in uid.get("ext", {}) for uid in uids)
        or bid.get("regs", {}).get("ext", {}).keys() & {"gpp", "gpp_sid"}
        or any(_is_told_by_segtax(data) for data in user.get("data", ()))
    )


def _is_told_by_segtax(data: dict[str, Any]) -> bool:
    partner = _ID_TO_PARTNER.get(str(data.get("id")))
    return partner is not None and (partner.segtax is not None or "ext" in data)
