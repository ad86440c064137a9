"""
What Prebid Server Java's module `optable-targeting` sends, and makes of the answer.

Written after its source (github.com/prebid/prebid-server-java, extra/modules/optable-targeting):

    IdsMapper                    which ids, each prefix once, the first uid of an eid
    OptableAttributesResolver    a valid TC string, or else the GPP string; never both
    QueryBuilder                 the query, from `&` on; what is encoded and what is not
    APIClientImpl                the endpoint's {TENANT} and {ORIGIN}, the headers; any answer but
                                 200 with a body is a failure
    BidRequestEnricher           `data` merged by its id, segments by theirs
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

from tests.edge.client import Answer

_STATIC_MAPPING = {"id5-sync.com": "id5", "utiq.com": "utiq", "netid.de": "n"}
_OS_PREFIXES = {"ios": "a", "android": "g", "roku": "r", "tizen": "s", "fire": "f"}


class Failed(Exception):
    """What the module logs, and lets the auction go on without."""


@dataclass
class Account:
    """The module's part of an account's configuration."""

    tenant: str = "dsp-a"
    origin: str = "pub-1"
    endpoint: str = "/v2/targeting?t={TENANT}&o={ORIGIN}"
    api_key: str = ""
    timeout: int | None = 5_000  # a busy machine has it, too
    ppid_mapping: Mapping[str, str] = field(default_factory=lambda: {"liveintent.com": "c"})


@dataclass
class Privacy:
    """What Prebid Server has found out of a request before the module is called."""

    tc_string: str = ""  # if it is valid
    is_in_gdpr_scope: bool = False
    gpp: str = ""
    gpp_sid: Sequence[int] = ()


def request_of(
    bid_request: Mapping[str, Any],
    account: Account,
    privacy: Privacy,
    *,
    prints_optional: bool = True,
) -> bytes:
    """
    Write the request.

    Args:
        prints_optional: As releases do that print Java's Optional, and not up to two sections.
    """
    user, device = bid_request.get("user", {}), bid_request.get("device", {})
    query = "".join(
        f"&id={quote_plus(f'{prefix}:{text}')}" for prefix, text in _ids(user, device, account)
    )
    if privacy.tc_string:
        query += f"&gdpr_consent={privacy.tc_string}&gdpr={int(privacy.is_in_gdpr_scope)}"
    else:
        query += "&gdpr=0"
        if privacy.gpp:
            query += f"&gpp={privacy.gpp}"
            if privacy.gpp_sid:
                sids = ",".join(map(str, privacy.gpp_sid[:2]))
                query += "&gpp_sid=" + (
                    f"Optional[{privacy.gpp_sid[0]}]" if prints_optional else sids
                )
    if account.timeout is not None:
        query += f"&timeout={account.timeout}ms"
    query += "&osdk=prebid-server"
    endpoint = account.endpoint.replace("{TENANT}", account.tenant)
    lines = [
        f"GET {endpoint.replace('{ORIGIN}', account.origin)}{query} HTTP/1.1",
        "Accept: application/json",
        *([f"User-Agent: {device['ua']}"] if "ua" in device else []),
        *([f"Authorization: Bearer {account.api_key}"] if account.api_key else []),
        *(f"X-Forwarded-For: {device[name]}" for name in ("ip", "ipv6") if name in device),
        "host: segments:8080",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def enriched(bid_request: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """
    Merge the answer into the request.

    Raises:
        Failed: The module would not.
    """
    if answer.status != 200 or not answer.body.strip():
        raise Failed(answer.status)
    try:
        user = json.loads(answer.body)["ortb2"]["user"]
        data = _merged(bid_request.get("user", {}).get("data") or [], user["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise Failed from error
    assert user["eids"] == []
    return {**bid_request, "user": {**bid_request.get("user", {}), "data": data}}


def _ids(
    user: Mapping[str, Any], device: Mapping[str, Any], account: Account
) -> list[tuple[str, str]]:
    ids: dict[str, str] = {}
    optable = user.get("ext", {}).get("optable", {})
    for member, prefix in (("email", "e"), ("phone", "p"), ("zip", "z"), ("vid", "v")):
        if member in optable:
            ids[prefix] = optable[member]
    os = device.get("os", "").lower()
    if "ifa" in device and os and device.get("lmt") != 1:
        ids |= {prefix: device["ifa"] for name, prefix in _OS_PREFIXES.items() if name in os}
    for mapping in (_STATIC_MAPPING, account.ppid_mapping):
        for eid in user.get("eids", ()):
            if eid["source"] in mapping and eid.get("uids"):
                ids[mapping[eid["source"]]] = eid["uids"][0]["id"]
    return list(ids.items())


def _merged(ours: list[Any], theirs: list[Any]) -> list[Any]:
    """Merge by the id alone: `ext.segtax` is not looked at."""
    id_to_data = {data["id"]: data for data in theirs}
    merged = [
        {**data, "segment": _joined(data.get("segment") or [], id_to_data[data["id"]]["segment"])}
        if data.get("id") in id_to_data
        else data
        for data in ours
    ]
    return _joined(merged, theirs)


def _joined(ours: list[Any], theirs: list[Any]) -> list[Any]:
    present = {each["id"] for each in ours}
    return [*ours, *(each for each in theirs if each["id"] not in present)]
