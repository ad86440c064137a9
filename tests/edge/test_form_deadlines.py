"""
Forms whose host waits for a time of its own, by a store that stalls.

Each is answered in the middle of that time, whatever `tmax` and the share of other bids.
"""

import asyncio
import json
from typing import Any

import pytest

from tests.edge.client import connected, request
from tests.edge.small_store import MEMBER, serving
from tests.engines import Engine

SETTINGS: dict[str, Any] = {
    "targeting": True,
    "targeting_recipients": ("dsp-a",),
    "targeting_gdpr_when_unsaid": False,
    "curation_gdpr_when_unsaid": False,
    "tmax_share": 0.01,
}
SEGMENT_REQUEST = {"user": {"eids": [{"source": "liveintent.com", "uids": [{"id": MEMBER}]}]}}
CURATION = "/curation/dsp-a"


def targeting(timeout: str) -> bytes:
    return request(b"", f"/v2/targeting?t=dsp-a&id=e%3A{MEMBER}{timeout}", "GET")


def curation(**members: Any) -> bytes:
    return request(json.dumps({**SEGMENT_REQUEST, **members}).encode(), CURATION)


NOTHING = b'{"audience":[],"ortb2":{"user":{"data":[],"eids":[]}}}'


LATEST_MS = 3_000
"""Of a busy machine; each deadline that would be wrong is later, or earlier than the right one."""


@pytest.mark.parametrize(
    ("asked", "cap_ms", "due_ms", "status", "body"),
    [
        pytest.param(targeting("&timeout=300ms"), 5_000, 150, 200, NOTHING, id="the module's"),
        pytest.param(targeting("&timeout=300"), 5_000, 150, 200, NOTHING, id="without a unit"),
        pytest.param(targeting("&timeout=9000ms"), 120, 120, 200, NOTHING, id="beyond our cap"),
        pytest.param(targeting(""), 120, 120, 200, NOTHING, id="unsaid, the cap"),
        pytest.param(curation(), 5_000, 25, 204, b"", id="Google's 50 ms"),
        pytest.param(curation(tmax=90_000), 5_000, 25, 204, b"", id="whatever is in its body"),
    ],
)
async def test_host_is_answered_in_half_of_its_time_while_the_store_stalls(
    valkey: Engine, asked: bytes, cap_ms: int, due_ms: float, status: int, body: bytes
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        serving(valkey.url, deadline_cap_ms=cap_ms, **SETTINGS) as service,
        connected(service.port) as client,
    ):
        valkey.freeze()
        try:
            sent_s = loop.time()
            client.send(asked)
            answer = await client.answer()
            taken_ms = (loop.time() - sent_s) * 1_000
        finally:
            valkey.thaw()

    assert due_ms <= taken_ms < LATEST_MS
    assert (answer.status, answer.body, answer.outcome) == (status, body, "out_of_time")
