"""The bid listener and its admin endpoint over TLS, met by clients that insist on it."""

import asyncio
import socket
import ssl

import pytest

from rtb.server.metrics.layout import BUGS, Where
from segments.store.servers.connection import connect
from tests.edge.client import WITHIN_S, connected, request
from tests.edge.processes import listening, start
from tests.edge.small_store import (
    MEMBER,
    SHOP_DATA,
    added_data,
    bid_request,
    eventually,
    furnish,
    serving,
)
from tests.engines import Engine
from tests.tls import TestCa


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.in_folder(tmp_path_factory.mktemp("tls"))


async def test_bids_are_enriched_over_tls_one_by_one_and_in_a_row(
    ca: TestCa, valkey: Engine
) -> None:
    # The longest is many TLS records long, each way.
    bodies = [bid_request(MEMBER, ext={"padding": "x" * size}) for size in (0, 10_000, 200_000)]

    async with (
        serving(valkey.url, tls_cert=ca.cert, tls_key=ca.key) as service,
        connected(service.port, ca.client()) as client,
    ):
        answers = [await client.post(body) for body in bodies]
        client.send(b"".join(map(request, bodies)))
        answers += [await client.answer() for _ in bodies]

    assert [answer.outcome for answer in answers] == ["enriched"] * 6
    assert all(added_data(answer.body) == [SHOP_DATA] for answer in answers)
    assert [answer.body for answer in answers[:3]] == [answer.body for answer in answers[3:]]


async def test_who_does_not_speak_our_tls_is_hung_up_on_and_disturbs_nobody(
    ca: TestCa, valkey: Engine
) -> None:
    old = ca.client()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")

    async with serving(valkey.url, tls_cert=ca.cert, tls_key=ca.key) as service:
        async with connected(service.port) as plain:
            plain.send(request(bid_request()))
            assert await plain.is_closed()
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection("127.0.0.1", service.port, ssl=old)
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(
                "127.0.0.1", service.port, ssl=ssl.create_default_context()
            )
        async with connected(service.port, ca.client()) as client:
            answer = await client.post(bid_request())

    assert answer.outcome == "enriched"


async def test_who_never_shakes_hands_is_hung_up_on(ca: TestCa, valkey: Engine) -> None:
    async with (
        serving(valkey.url, tls_cert=ca.cert, tls_key=ca.key, header_timeout_s=0.2) as service,
        connected(service.port) as silent,
    ):
        assert await silent.is_closed()


async def test_sigterm_drains_over_tls_as_without(ca: TestCa, valkey: Engine) -> None:
    async with connect(valkey.url) as redis:
        await furnish(redis)
    async with listening(
        redis_url=valkey.url,
        workers=2,
        tls_cert=ca.cert,
        tls_key=ca.key,
        admin_tls_cert=ca.cert,
        admin_tls_key=ca.key,
        admin_tls=ca.client(),
    ) as listener:
        await eventually(listener.is_ready)
        async with connected(listener.port, ca.client()) as client:
            first = await client.post(bid_request())
            listener.process.terminate()
            await eventually(lambda: _is_refused(listener.port))
            last = await client.post(bid_request())
            closed = await client.is_closed()
        async with asyncio.timeout(WITHIN_S):
            status = await listener.process.wait()

    assert (first.outcome, last.outcome) == ("enriched", "enriched")
    assert last.headers["connection"] == "close"
    assert closed
    assert status == 0


@pytest.mark.parametrize("door", ["", "admin_"])
async def test_files_that_do_not_fit_are_one_line_and_no_service(
    ca: TestCa, valkey: Engine, tmp_path_factory: pytest.TempPathFactory, door: str
) -> None:
    other = TestCa.in_folder(tmp_path_factory.mktemp("other"))

    process = await start(
        host="127.0.0.1",
        port=0,
        admin_port=0,
        redis_url=valkey.url,
        **{f"{door}tls_cert": ca.cert, f"{door}tls_key": other.key},
    )
    output, _ = await process.communicate()

    variable = f"RTB_{door.upper()}TLS"
    assert process.returncode == 1
    assert output.decode().splitlines() == [
        f"rtb: {variable}_KEY: not the key of the certificate of {variable}_CERT"
    ]


async def test_half_of_a_pair_is_one_line_and_no_service(ca: TestCa) -> None:
    process = await start(tls_key=ca.key)
    output, _ = await process.communicate()

    assert process.returncode == 2
    assert output.decode() == "RTB_TLS_CERT: not set, while RTB_TLS_KEY is\n"


def _is_refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_refusal_over_tls_is_told_and_is_no_bug(ca: TestCa, valkey: Engine) -> None:
    async with (
        serving(valkey.url, tls_cert=ca.cert, tls_key=ca.key, max_body_bytes=2_000) as service,
        connected(service.port, ca.client()) as client,
    ):
        client.send(request(b" " * 1_000_000))
        answer = await client.answer()
        bugs = [service.counters.cells[BUGS + n] for n in range(len(Where))]

    assert (answer.status, answer.error) == (413, "body_too_large")
    assert not any(bugs)
