"""
What went wrong with the like of the bid listener, by public reports, tried on ours.

Each test names the report by its URL. Somebody's client sends it, or somebody's server
fell for it.
"""

import json
from typing import Any

import pytest

from tests.edge.client import Client, connected, request
from tests.edge.small_store import bid_request, serving
from tests.engines import Engine


def _with_user(**user: Any) -> bytes:
    body = json.loads(bid_request())
    body["user"] |= user
    return json.dumps(body).encode()


async def _outcome(valkey: Engine, body: bytes) -> str:
    async with serving(valkey.url) as service, connected(service.port) as client:
        return (await client.post(body)).outcome


async def _status(valkey: Engine, data: bytes) -> int:
    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(data)
        return (await client.answer()).status


async def test_body_behind_an_offer_of_h2c_is_read_and_the_next_request_too(
    valkey: Engine,
) -> None:
    """https://github.com/Kludex/uvicorn/issues/2722: the body was lost, the parser wedged."""
    body = bid_request()
    head = (
        b"POST /openrtb2/enrich/dsp-a HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\n"
    )

    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(head)
        await client.writer.drain()
        client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        first = await client.answer()
        second = await client.post(body)

    assert [first.outcome, second.outcome] == ["enriched", "enriched"]


async def test_empty_uids_beside_a_good_one_cost_nothing(valkey: Engine) -> None:
    """https://github.com/prebid/prebid-server/issues/3859: one empty id, and all were refused."""
    eids = json.loads(bid_request())["user"]["eids"]
    others = [
        {"source": "liveintent.com", "uids": [{"id": ""}, {}]},
        {"source": "yahoo.com", "uids": [{"id": ""}, {"id": ""}]},
        {"source": "", "uids": [{"id": "x"}]},
    ]

    assert await _outcome(valkey, _with_user(eids=[*others, *eids])) == "enriched"


async def test_empty_eids_are_no_error(valkey: Engine) -> None:
    """https://github.com/prebid/prebid-server/issues/2712: `eids: []` was a 400."""
    eids = json.loads(bid_request())["user"]["eids"]

    assert await _outcome(valkey, _with_user(eids=[])) == "no_identity"
    assert await _outcome(valkey, _with_user(eids=[], ext={"eids": eids})) == "enriched"


async def test_user_ext_may_be_empty_or_hold_what_nobody_knows(valkey: Engine) -> None:
    """https://github.com/prebid/prebid-server/issues/371: an empty `user.ext` was an error."""
    assert await _outcome(valkey, _with_user(ext={})) == "enriched"
    assert await _outcome(valkey, _with_user(ext={"digitrust": {"id": "x"}})) == "enriched"


async def test_booleans_for_numbers_are_no_error_and_no_permission(valkey: Engine) -> None:
    """https://github.com/k-bx/openrtb-rust/pull/7: senders write true for 1 in `dnt`, `lmt`."""
    body = json.loads(bid_request())

    assert await _outcome(valkey, json.dumps({**body, "device": {"dnt": True}}).encode()) == (
        "enriched"
    )
    assert await _outcome(valkey, json.dumps({**body, "device": {"lmt": True}}).encode()) == (
        "no_consent"
    )


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"Content-Length: 0\r\nTransfer-Encoding: chunked", id="length first"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 0", id="coding first"),
    ],
)
async def test_length_and_coding_together_are_refused(valkey: Engine, lines: bytes) -> None:
    """https://github.com/litespeedtech/openlitespeed/issues/392: a request in the body of one."""
    data = (
        b"POST /openrtb2/enrich/dsp-a HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n"
        b"20\r\nGET / HTTP/1.1\r\nHost: gotcha\r\n\r\n\r\n0\r\n\r\n" % lines
    )

    assert await _status(valkey, data) == 400


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(b"2\n{}\r\n0\r\n\r\n", id="behind a size"),
        pytest.param(b"2;a\n{}\r\n0\r\n\r\n", id="in an extension"),
        pytest.param(b"2\r\n{}\n0\r\n\r\n", id="behind a chunk"),
    ],
)
async def test_line_feed_alone_ends_no_line_of_a_chunk(valkey: Engine, chunk: bytes) -> None:
    """https://github.com/golang/go/issues/71988: what another takes for a chunk's extension."""
    head = b"POST /openrtb2/enrich/dsp-a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert await _status(valkey, head + chunk) == 400


@pytest.mark.parametrize("second", [b"0", b"2", b"02"])
async def test_two_lengths_are_refused(valkey: Engine, second: bytes) -> None:
    """https://github.com/postrank-labs/goliath/issues/351: the second one won."""
    data = request(b"{}").replace(b"\r\n\r\n", b"\r\nContent-Length: " + second + b"\r\n\r\n")

    assert await _status(valkey, data) == 400


@pytest.mark.parametrize(
    "line",
    [b"Transfer-Encoding : chunked", b"Transfer-Encoding: ch\xe2\x80\x93nked", b" Host: b"],
)
async def test_header_that_is_spelled_oddly_is_refused(valkey: Engine, line: bytes) -> None:
    """https://github.com/tiny-http/tiny-http/issues/173: one server's body, another's request."""
    data = (
        b"POST /openrtb2/enrich/dsp-a HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n2\r\n{}\r\n0\r\n\r\n" % line
    )

    assert await _status(valkey, data) == 400


async def _of_1_0(client: Client, connection: str) -> str | None:
    data = request(bid_request(), Connection=connection).replace(b"HTTP/1.1", b"HTTP/1.0")
    client.send(data)
    answer = await client.answer()
    assert answer.outcome == "enriched"
    return answer.headers.get("connection")


async def test_http_1_0_is_closed_when_it_says_so(valkey: Engine) -> None:
    """https://github.com/pgjones/hypercorn/issues/330: check_http waited for the end."""
    async with serving(valkey.url) as service, connected(service.port) as client:
        assert await _of_1_0(client, "close") == "close"
        assert await client.is_closed()


async def test_http_1_0_that_wants_to_be_kept_is_told_so(valkey: Engine) -> None:
    """https://github.com/hyperium/hyper/issues/1393: `ab -k` hung, for nobody told it."""
    async with serving(valkey.url) as service, connected(service.port) as client:
        assert await _of_1_0(client, "Keep-Alive") == "keep-alive"
        assert await _of_1_0(client, "Keep-Alive") == "keep-alive"
