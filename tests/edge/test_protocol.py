"""HTTP at its edges: what clients do, by mistake, by nature or on purpose."""

import asyncio
import gzip
import socket
from typing import NoReturn

import pytest

from rtb.server.http.http11 import MIN_GZIP_BYTES
from rtb.server.http.protocol import Connection
from rtb.server.metrics import layout
from tests.edge.client import Client, connected, request
from tests.edge.small_store import (
    OPTED_OUT,
    STRANGER,
    added_data,
    bid_request,
    eventually,
    serving,
)
from tests.engines import Engine

LARGE = bid_request(site={"keywords": "x" * 2 * MIN_GZIP_BYTES})


async def test_pipelined_requests_are_answered_in_order(engine: Engine) -> None:
    """
    The second needs no store, so its answer is ready before the first's.
    """
    bodies = [bid_request(), bid_request(None), b"{", bid_request(OPTED_OUT), bid_request(STRANGER)]

    async with serving(engine.url) as service, connected(service.port) as client:
        client.send(b"".join(map(request, bodies * 40)))
        outcomes = [(await client.answer()).outcome for _ in bodies * 40]

    assert outcomes == ["enriched", "no_identity", "malformed", "opted_out", "no_match"] * 40


async def test_request_that_comes_byte_by_byte_is_read(valkey: Engine) -> None:
    """
    Its first byte is the first of HTTP/2's preface, too.
    """
    async with serving(valkey.url) as service, connected(service.port) as client:
        for byte in request(bid_request()):
            client.send(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        answer = await client.answer()

    assert answer.outcome == "enriched"


async def test_chunked_body_is_read(valkey: Engine) -> None:
    body = bid_request()
    head = b"POST /openrtb2/enrich/dsp-a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]))

    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(head + chunks + b"0\r\n\r\n" + request(bid_request(None)))
        outcomes = [(await client.answer()).outcome for _ in range(2)]

    assert outcomes == ["enriched", "no_identity"]


def _chunked(body: bytes, coding: bytes, *lines: bytes, trailers: bytes = b"") -> bytes:
    head = (
        b"POST /openrtb2/enrich/dsp-a HTTP/1.1",
        b"Host: a",
        b"Transfer-Encoding: " + coding,
        *lines,
    )
    chunk = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers)
    return b"\r\n".join(head) + b"\r\n\r\n" + chunk


@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        pytest.param(b"hello\r\n\r\n", 400, "bad_http", id="no HTTP"),
        pytest.param(request(b"{}", "/nowhere"), 404, "unknown_path", id="unknown path"),
        pytest.param(
            request(b"{}", "/openrtb2/enrich/nobody"), 404, "unknown_recipient", id="recipient"
        ),
        pytest.param(request(b"", method="GET"), 405, "not_post", id="GET"),
        pytest.param(request(b"", method="HEAD"), 405, "not_post", id="HEAD"),
        pytest.param(
            request(b" " * 2_000), 413, "body_too_large", id="a large body"
        ),
        pytest.param(
            request(b"", Expect="100-continue").replace(b"th: 0", b"th: 9999"),
            413,
            "body_too_large",
            id="a large body announced",
        ),
        pytest.param(
            request(gzip.compress(b" " * 2_000), Content_Encoding="gzip"),
            413,
            "body_too_large",
            id="a large body folded",
        ),
        pytest.param(
            request(b"{}", X_Large="x" * 20_000), 431, "head_too_large", id="a large header"
        ),
        pytest.param(
            request(b"{}", **{f"X_{i}": "1" for i in range(200)}),
            431,
            "head_too_large",
            id="many headers",
        ),
        pytest.param(
            request(b"{}").replace(b"\r\n\r\n", b"\r\nX: y" * 150 + b"\r\n\r\n"),
            431,
            "head_too_large",
            id="one header many times",
        ),
        pytest.param(
            request(b"{}").replace(b"\r\n\r\n", (b"\r\nX: " + b"y" * 900) * 30 + b"\r\n\r\n"),
            431,
            "head_too_large",
            id="one header that is long many times",
        ),
        pytest.param(
            request(b"{}").replace(b"Host: localhost\r\n", b""), 400, "bad_http", id="no host"
        ),
        pytest.param(request(b"{}", Host="b"), 400, "bad_http", id="two hosts"),
        pytest.param(request(b"{}", host="b"), 400, "bad_http", id="two hosts, of two spellings"),
        pytest.param(
            request(b"{}").replace(b"Host: localhost", b"Host: a b"), 400, "bad_http", id="no name"
        ),
        pytest.param(_chunked(b"{}", b"br, chunked"), 501, "transfer_coding", id="another coding"),
        pytest.param(
            _chunked(b"{}", b"gzip, gzip, chunked"), 501, "transfer_coding", id="two codings"
        ),
        pytest.param(
            _chunked(b"{}", b"gzip, chunked", b"Content-Encoding: gzip"),
            501,
            "transfer_coding",
            id="a coding of an encoding",
        ),
        pytest.param(request(b"{}", Expect="a miracle"), 417, "expectation", id="expectation"),
    ],
)  # fmt: skip
async def test_what_is_no_bid_request_is_refused_with_its_reason(
    valkey: Engine, data: bytes, status: int, error: str
) -> None:
    async with (
        serving(valkey.url, max_body_bytes=1_024) as service,
        connected(service.port) as client,
    ):
        client.send(data)
        answer = await client.answer()
        async with connected(service.port) as other:
            after = await other.post(bid_request())

    assert (answer.status, answer.error, answer.body) == (status, error, b"")
    assert answer.outcome == "malformed"
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)
    assert after.outcome == "enriched"


async def test_refusal_comes_behind_the_answers_before_it(engine: Engine) -> None:
    async with serving(engine.url) as service, connected(service.port) as client:
        client.send(request(bid_request()) + request(b" " * 300_000))
        enriched, refused = await client.answer(), await client.answer()

        assert (enriched.outcome, refused.status) == ("enriched", 413)
        assert refused.headers["connection"] == "close"
        assert await client.is_closed()


async def test_refused_client_that_goes_on_sending_still_reads_why(valkey: Engine) -> None:
    async with (
        serving(valkey.url, max_body_bytes=1_024) as service,
        connected(service.port) as client,
    ):
        client.send(request(b" " * 4_000_000))
        answer = await client.answer()

    assert answer.status == 413


async def test_endless_header_is_refused(valkey: Engine) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(b"POST /openrtb2/enrich/dsp-a HTTP/1.1\r\nX-Endless: ")
        for _ in range(40):
            client.send(b"x" * 1_000)
            await asyncio.sleep(0)
        answer = await client.answer()

    assert answer.status == 431


async def test_endless_trailers_are_refused(valkey: Engine) -> None:
    async with (
        serving(valkey.url, max_body_bytes=1_024) as service,
        connected(service.port) as client,
    ):
        client.send(b"POST /openrtb2/enrich/dsp-a HTTP/1.1\r\nHost: a\r\n")
        client.send(b"Transfer-Encoding: chunked\r\n\r\n")
        client.send(b"2\r\n{}\r\n0\r\nX-Endless: ")
        for _ in range(40):
            client.send(b"x" * 1_000)
            await client.writer.drain()
            await asyncio.sleep(0.001)  # or the kernel makes one piece of them
        answer = await client.answer()

    assert answer.status == 413


@pytest.mark.parametrize(
    ("start", "drip", "status"),
    [
        pytest.param(b"P", b"", 408, id="after its first byte"),
        pytest.param(b"POS", b"", 408, id="in the method"),
        pytest.param(b"POST ", b"", 408, id="after the method"),
        pytest.param(b"POST /openrtb2/enrich/dsp-a HT", b"", 408, id="in the request line"),
        pytest.param(b"POST /openrtb2/enrich/dsp-a HTTP/1.1\r\nA: ", b"a", 408, id="in a header"),
        pytest.param(request(b"{}")[:-1], b"", 408, id="in the body"),
    ],
)
async def test_slow_client_is_told_so_however_it_drips(
    valkey: Engine, start: bytes, drip: bytes, status: int
) -> None:
    settings = {"header_timeout_s": 0.3, "body_timeout_s": 0.3}
    async with serving(valkey.url, **settings) as service, connected(service.port) as client:
        client.send(start)
        answering = asyncio.create_task(client.answer())
        while not answering.done():
            client.send(drip)
            await asyncio.wait([answering], timeout=0.02)

        assert answering.result().status == status
        assert await client.is_closed()


@pytest.mark.parametrize(
    "drip", [pytest.param(b"", id="silent"), pytest.param(b"\r\n", id="of empty lines")]
)
async def test_idle_connection_is_closed(valkey: Engine, drip: bytes) -> None:
    async with (
        serving(valkey.url, idle_timeout_s=0.3) as service,
        connected(service.port) as client,
    ):
        closing = asyncio.create_task(client.is_closed())
        while not closing.done():
            client.send(drip)
            await asyncio.wait([closing], timeout=0.02)

        assert closing.result()
        assert not service.worker.site.connections


async def test_client_that_does_not_fetch_its_answers_is_not_read_on(valkey: Engine) -> None:
    """
    Answers that nobody fetches would fill our memory; so its requests wait in its own.
    """
    async with serving(valkey.url) as service:
        with socket.create_connection(("127.0.0.1", service.port)) as greedy:
            greedy.setblocking(False)
            loop = asyncio.get_running_loop()
            sending = asyncio.create_task(loop.sock_sendall(greedy, request(LARGE) * 20_000))
            await eventually(
                lambda: any(
                    isinstance(c, Connection) and c._is_choked
                    for c in service.worker.site.connections
                )
            )
            answered = service.count("enriched")
            async with connected(service.port) as other:
                assert (await other.post(bid_request())).outcome == "enriched"

            assert not sending.done()
            assert answered < 20_000
            sending.cancel()


async def test_half_closed_client_gets_what_it_waits_for(engine: Engine) -> None:
    async with serving(engine.url) as service, connected(service.port) as client:
        client.send(request(bid_request()) * 2)
        client.writer.write_eof()
        answers = [await client.answer() for _ in range(2)]

        assert [answer.outcome for answer in answers] == ["enriched"] * 2
        assert answers[1].headers["connection"] == "close"
        assert await client.is_closed()


@pytest.mark.parametrize(
    "is_reset", [pytest.param(False, id="closed"), pytest.param(True, id="reset")]
)
async def test_client_that_is_gone_takes_nothing_with_it(engine: Engine, is_reset: bool) -> None:
    """
    A reply written to a closed client once took the link to the store down.
    """
    async with serving(engine.url) as service, connected(service.port) as other:
        bids = service.worker.bids
        link_faults = slice(layout.STORE_FAULTS, layout.STORE_FAULTS + len(layout.FAULTS))
        engine.freeze()
        async with connected(service.port) as gone:
            gone.send(request(bid_request()) * 3)
            other.send(request(bid_request()))
            await eventually(lambda: bids.in_flight == 4)
            if is_reset:
                gone.reset()
        if is_reset:
            await eventually(lambda: bids.in_flight == 1)
        engine.thaw()
        answer = await other.answer()
        after = await other.post(bid_request(OPTED_OUT))
        await eventually(lambda: len(service.worker.site.connections) == 1)

        assert (answer.outcome, after.outcome) == ("enriched", "opted_out")
        assert bids.in_flight == 0
        assert not any(service.counters.cells[link_faults])


async def test_bug_of_the_application_closes_its_connection_and_is_counted(
    valkey: Engine,
) -> None:
    """
    It must not pass for a client's bad HTTP: somebody of us must act.
    """

    def broken(*_: object) -> NoReturn:
        raise RuntimeError("a bug")

    async with serving(valkey.url) as service, connected(service.port) as client:
        site = service.worker.site
        sound, site.new_turn = site.new_turn, broken
        client.send(request(bid_request()))
        assert await client.is_closed()
        site.new_turn = sound
        async with connected(service.port) as other:
            after = await other.post(bid_request())
        bugs = layout.BUGS + tuple(layout.Where).index(layout.Where.HTTP)

        assert after.outcome == "enriched"
        assert service.counters.cells[bugs] == 1


async def test_connection_is_closed_when_the_client_says_so(valkey: Engine) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(bid_request(), Connection="close")

        assert answer.outcome == "enriched"
        assert answer.headers["connection"] == "close"
        assert await client.is_closed()


async def test_http_1_0_is_kept_alive_when_it_asks(valkey: Engine) -> None:
    kept = request(bid_request(), Connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")

    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(kept)
        first = await client.answer()
        client.send(request(bid_request()).replace(b"HTTP/1.1", b"HTTP/1.0"))
        second = await client.answer()

        assert first.headers["connection"] == "keep-alive"
        assert second.headers["connection"] == "close"
        assert await client.is_closed()


@pytest.mark.parametrize("name", ["h2c", "websocket", "TLS/1.0, h2c"])
@pytest.mark.parametrize("size", [1_000_000, 7, 1], ids=["whole", "in pieces", "byte by byte"])
async def test_upgrade_is_ignored_and_the_body_read(valkey: Engine, name: str, size: int) -> None:
    """
    Java's HttpClient and `curl --http2` offer h2c with each first request (RFC 9110, 7.8).
    """
    body = bid_request()
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": name, "HTTP2_Settings": "AAMAAABk"}
    data = request(body, **offer) * 2 + request(body)

    async with serving(valkey.url) as service, connected(service.port) as client:
        for at in range(0, len(data), size):
            client.send(data[at : at + size])
            if size < len(data):
                await client.writer.drain()
        answers = [await client.answer() for _ in range(3)]
        again = await client.post(body, **offer)

    assert [answer.outcome for answer in (*answers, again)] == ["enriched"] * 4


async def test_upgrade_of_a_chunked_body_that_is_no_http_is_refused(valkey: Engine) -> None:
    data = _chunked(b"{}", b"chunked", b"Connection: Upgrade", b"Upgrade: h2c")

    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(data.replace(b"2\r\n{}", b"zz\r\n{}"))
        answer = await client.answer()

    assert (answer.status, answer.error) == (400, "bad_http")


async def test_tunnel_is_not_made(valkey: Engine) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        answer = await client.answer()

        assert answer.status in {404, 405}
        assert await client.is_closed()


async def test_trailers_change_nothing(valkey: Engine) -> None:
    """
    They come behind the body, and a field of the head among them is none (RFC 9110, 6.5.1).
    """
    trailers = b"Content-Type: text/plain\r\nHost: b\r\nContent-Encoding: gzip\r\n"

    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(_chunked(bid_request(), b"chunked", trailers=trailers))
        first = await client.answer()
        second = await client.post(bid_request())

    assert [first.outcome, second.outcome] == ["enriched", "enriched"]


@pytest.mark.parametrize(
    "coding", [b"gzip, chunked", b"x-gzip ,\tChunked", b"gzip\r\nTransfer-Encoding: chunked"]
)
async def test_gzip_as_a_transfer_coding_is_undone(valkey: Engine, coding: bytes) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(_chunked(gzip.compress(bid_request()), coding))
        answer = await client.answer()

    assert answer.outcome == "enriched"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(gzip.compress(bid_request()), 200, id="gzip"),
        pytest.param(bid_request(), 200, id="plain"),
        pytest.param(gzip.compress(bid_request())[:-9], 400, id="gzip, cut short"),
    ],
)
async def test_host_may_say_gzip_by_its_url(valkey: Engine, body: bytes, status: int) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(body, "/openrtb2/enrich/dsp-a?x=1&gzip=1")
        unsaid = await client.post(body, "/openrtb2/enrich/dsp-a?gzip=0")

    assert answer.status == status
    assert unsaid.status == (200 if body == bid_request() else 400)


@pytest.mark.parametrize("zeros", [1, 500])
async def test_zeros_behind_gzip_are_padding(valkey: Engine, zeros: int) -> None:
    body = gzip.compress(bid_request()) + b"\0" * zeros

    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(body, Content_Encoding="gzip")

    assert answer.outcome == "enriched"


async def test_client_that_asks_first_is_told_to_continue(valkey: Engine) -> None:
    body = bid_request()
    head = request(body, Expect="100-continue")[: -len(body)]

    async with serving(valkey.url) as service, connected(service.port) as client:
        client.send(head)
        told = await client.answer()
        client.send(body)
        answer = await client.answer()

    assert (told.status, answer.outcome) == (100, "enriched")


async def test_gzip_request_is_read_and_its_answer_plain_unless_asked(valkey: Engine) -> None:
    folded = gzip.compress(LARGE)

    async with serving(valkey.url) as service, connected(service.port) as client:
        plain = await client.post(folded, Content_Encoding="gzip")
        both = await client.post(folded, Content_Encoding="gzip", Accept_Encoding="br, gzip")

    assert "content-encoding" not in plain.headers
    assert both.headers["content-encoding"] == "gzip"
    assert both.plain == plain.body
    assert added_data(plain.body)


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        pytest.param("identity", LARGE, id="not asked for"),
        pytest.param("gzip;q=0, *", LARGE, id="refused"),
        pytest.param("gzip", bid_request(), id="too small to gain"),
    ],
)
async def test_answer_is_not_folded(valkey: Engine, accept: str, body: bytes) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(body, Accept_Encoding=accept)

    assert "content-encoding" not in answer.headers
    assert answer.outcome == "enriched"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", bid_request(), id="plain text"),
        pytest.param("gzip", gzip.compress(bid_request())[:-9], id="cut short"),
        pytest.param("gzip", gzip.compress(b"") * 100, id="of a hundred members"),
        pytest.param("br", bid_request(), id="unknown"),
    ],
)
async def test_encoding_that_does_not_unfold_is_malformed(
    valkey: Engine, encoding: str, body: bytes
) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(body, Content_Encoding=encoding)
        after = await client.post(bid_request())

        assert (answer.status, answer.error) == (400, "bad_encoding")
        assert after.outcome == "enriched"
        assert service.count("malformed", "bad_encoding") == 1


async def test_gzip_bomb_is_not_unfolded(valkey: Engine) -> None:
    bomb = gzip.compress(b" " * 20_000_000, 9)

    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(bomb, Content_Encoding="gzip")

    assert answer.status == 413


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        pytest.param("2.6", "2.6", id="a version"),
        pytest.param("2.6; rm", None, id="none"),
    ],
)
async def test_version_is_echoed(valkey: Engine, sent: str, echoed: str | None) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        first = await client.post(bid_request(), X_OpenRTB_Version=sent)
        second = await client.post(bid_request())

    assert first.headers.get("x-openrtb-version") == echoed
    assert "x-openrtb-version" not in second.headers


async def test_no_more_of_a_pipeline_is_begun_than_allowed(engine: Engine) -> None:
    async with serving(engine.url) as service, connected(service.port) as client:
        limit = service.worker.site.limits.max_pipelined
        engine.freeze()
        await _send_apart(client, request(bid_request()), 2 * limit)
        await eventually(lambda: service.worker.bids.in_flight >= limit)
        begun = service.worker.bids.in_flight
        engine.thaw()
        outcomes = [(await client.answer()).outcome for _ in range(2 * limit)]

    assert begun < 2 * limit
    assert outcomes == ["enriched"] * 2 * limit


async def _send_apart(client: Client, data: bytes, times: int) -> None:
    """Send so that the server reads it in many pieces."""
    for _ in range(times):
        client.send(data)
        await client.writer.drain()
        await asyncio.sleep(0.001)
