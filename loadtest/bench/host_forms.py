"""The hosts' own forms in JSON, asked about one person, with the checked answers."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp

from loadtest.bench.checks import WrongAnswers
from loadtest.bench.h2load import Ask
from loadtest.driver import Exchange
from loadtest.population import SEES_ALL
from loadtest.servers import HOST, Server
from rtb.outcome import Outcome

VARIABLES: Mapping[str, str] = {
    "RTB_TARGETING": "true",
    "RTB_TARGETING_RECIPIENTS": SEES_ALL,
    "RTB_TARGETING_GDPR_WHEN_UNSAID": "false",
    "RTB_CURATION_GDPR_WHEN_UNSAID": "false",
}
"""The settings that a bid listener needs for them."""

_JSON = "application/json"
_NOTHING_TARGETED_BYTES = len(b'{"audience":[],"ortb2":{"user":{"data":[],"eids":[]}}}')
_TIMEOUT_MS = 2_000


class _Form(NamedTuple):
    name: str
    path: str
    body: bytes | None
    """`None`: a GET."""
    nothing_bytes: int
    """Of the body of a late answer."""


async def host_asks(server: Server, hit: Exchange) -> list[tuple[str, Ask]]:
    """
    Return the name of each host's form, and its question about a person.

    `server` is ours, with `VARIABLES`; `hit` a bid of the person in the full form, with its answer.

    Raises:
        WrongAnswers: An answer does not have the segments of the full form.
    """
    bid = json.loads(hit.sent.partition(b"\r\n\r\n")[2])
    due = set(_segments(json.loads(hit.answer.body))) - set(_segments(bid))
    asks = []
    async with aiohttp.ClientSession(f"http://{HOST}:{server.port}") as session:
        for name, path, body, nothing_bytes in _forms(bid):
            method = "GET" if body is None else "POST"
            headers = {"Content-Type": _JSON, "Accept-Encoding": "identity"}
            async with session.request(method, path, data=body, headers=headers) as answer:
                answered = await answer.read()
            if answer.headers["X-Enrich-Outcome"] != Outcome.ENRICHED:
                raise WrongAnswers(f"{name}: {answer.headers['X-Enrich-Outcome']!r}")
            if set(_segments(json.loads(answered))) != due:
                raise WrongAnswers(f"{name}: other segments than in the full form")
            ask = Ask(path, _JSON, body, len(answered), len(answered) - nothing_bytes)
            asks.append((name, ask))
    return asks


def _forms(bid: dict[str, Any]) -> Iterator[_Form]:
    eids = bid["user"]["ext"]["eids"]
    digest = eids[0]["uids"][0]["id"]
    yield _Form("OpenX, POST /openrtb25", f"/openrtb25/{SEES_ALL}", json.dumps(bid).encode(), 0)
    segment_request = json.dumps({"segment_request_id": "r1", "user": {"eids": eids}})
    path = f"/curation/{SEES_ALL}"
    yield _Form("Google, POST /curation", path, segment_request.encode(), 0)
    query = f"t={SEES_ALL}&o=pub-1&id={quote(f'e:{digest}')}&gdpr=0&timeout={_TIMEOUT_MS}ms"
    path = f"/v2/targeting?{query}&osdk=prebid-server"
    yield _Form("Prebid Server, GET /v2/targeting", path, None, _NOTHING_TARGETED_BYTES)


def _segments(answer: dict[str, Any]) -> Iterator[str]:
    for segment in answer.get("segment", ()):
        yield segment["segment_id"]
    for data in answer.get("ortb2", answer).get("user", {}).get("data", ()):
        for segment in data["segment"]:
            yield segment["id"]
