"""What an RTBRequest says: by the official runtime, and by us."""

from typing import Any

from loadtest.artf.messages import artf
from rtb.openrtb.artf import RtbRequest
from rtb.openrtb.inventory import publisher_ids
from rtb.openrtb.rtb_request import read_data
from rtb.outcome import MalformedRequest


def _said(message: Any, name: str, *more: tuple[Any, str]) -> tuple[Any, ...]:
    return tuple(getattr(m, n) for m, n in ((message, name), *more) if m.HasField(n))


def by_the_runtime(raw: bytes) -> dict[str, Any]:
    """Say what the official runtime finds, in our words."""
    message = artf.RTBRequest.FromString(raw)
    bid = message.bid_request
    found = {
        "id": message.id if message.HasField("id") else None,
        "originator": message.originator.id if message.originator.HasField("id") else None,
        "wants_segments": message.lifecycle in (0, 1)
        and (not message.applicable_intents or 1 in message.applicable_intents),
        "is_one": bid.HasField("id"),
    }
    if not bid.HasField("id"):
        return found
    eids = [*bid.user.eids, *bid.user.ext.eids]
    places = [getattr(bid, name) for name in ("site", "app", "dooh")]
    return found | {
        "tmax": message.tmax if message.HasField("tmax") else None,
        "uids": [
            (eid.source, uid.id, None)
            for eid in eids
            for uid in eid.uids
            if eid.HasField("source") and uid.HasField("id")
        ],
        "consents": _said(bid.user, "consent", (bid.user.ext, "consent")),
        "buyeruid": _said(bid.user, "buyeruid"),
        "ifa": _said(bid.device, "ifa"),
        "publishers": {p.publisher.id for p in places if p.publisher.HasField("id")},
        "coppa": _flags(_said(bid.regs, "coppa")),
        "gdpr": _flags(_said(bid.regs, "gdpr", (bid.regs.ext, "gdpr"))),
        "us_privacy": _said(bid.regs, "us_privacy", (bid.regs.ext, "us_privacy")),
        "gpp": _said(bid.regs, "gpp"),
        "gpp_sid": (list(bid.regs.gpp_sid),) if bid.regs.gpp_sid else (),
        "gpc": _said(bid.regs.ext, "gpc"),
        "lmt": any(_said(bid.device, "lmt")),
        "dnt": any(_said(bid.device, "dnt")),
        "atts": _said(bid.device.ext, "atts"),
        "data": [
            (
                data.id if data.HasField("id") else None,
                [s.id for s in data.segment if s.HasField("id")],
            )
            for data in bid.user.data
        ],
        "is_odd": False,
    }


def _flags(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if value else 0 for value in values)


def by_us(call: RtbRequest) -> dict[str, Any]:
    """Say what we have found, in the same words."""
    request = call.bid_request
    found = {
        "id": call.id,
        "originator": call.originator,
        "wants_segments": call.wants_segments,
        "is_one": request is not None,
    }
    if request is None:
        return found
    members = dict(request.copies)
    law, tracking = request.regs, request.tracking
    return found | {
        "tmax": request.tmax,
        "uids": request.uids,
        "consents": request.consents,
        "buyeruid": tuple(value for _, value in members.get("user", ())),
        "ifa": tuple(value for _, value in members.get("device", ())),
        "publishers": publisher_ids(request),
        "coppa": law.coppa,
        "gdpr": law.gdpr,
        "us_privacy": law.us_privacy,
        "gpp": law.gpp,
        "gpp_sid": law.gpp_sid,
        "gpc": law.gpc,
        "lmt": any(tracking.lmt),
        "dnt": any(tracking.dnt),
        "atts": tracking.atts,
        "data": [_data(message) for message in request.data_messages or ()],
        "is_odd": request.is_odd,
    }


def _data(message: bytes) -> tuple[str | None, list[str]]:
    try:
        return read_data(message)
    except MalformedRequest:
        return None, []  # nobody's: see rtb.openrtb.additions
