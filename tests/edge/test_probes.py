"""Health and metrics on the port of bids, where the supervisor is slow, silent or gone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rtb.server.probes import Probes
from tests.edge.client import Client, connected
from tests.edge.small_store import Service, bid_request, eventually, started

_NOWHERE = "redis://127.0.0.1:1"
_MOST = 32
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: 2\r\n\r\nok"


class Supervisor:
    """A supervisor that answers when it is told to, what it is told to."""

    def __init__(self, answer: bytes) -> None:
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind("")
        self.address: bytes = self.listening.getsockname()
        self.asked: list[bytes] = []
        self.may_answer = asyncio.Event()
        self._answer = answer

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        await self.may_answer.wait()
        writer.write(self._answer)
        writer.close()


@asynccontextmanager
async def probed(answer: bytes = _ANSWER) -> AsyncIterator[tuple[Service, Supervisor]]:
    supervisor = Supervisor(answer)
    async with started(_NOWHERE) as service:
        server = await asyncio.start_unix_server(supervisor.take, sock=supervisor.listening)
        service.worker.bids.probes = Probes(supervisor.address, has_health=True, has_metrics=False)
        try:
            yield service, supervisor
        finally:
            supervisor.may_answer.set()
            server.close()


def _get(client: Client, path: str = "/healthz") -> None:
    client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def test_answer_of_the_supervisor_is_passed_on_in_the_order_of_requests() -> None:
    async with probed() as (service, supervisor), connected(service.port) as client:
        _get(client, "/healthz?a=1&strict")
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: supervisor.asked != [])
        supervisor.may_answer.set()
        first, second = await client.answer(), await client.answer()

    assert supervisor.asked == [b"GET /healthz?strict HTTP/1.1"]
    assert (first.status, first.headers["content-type"], first.body) == (200, "x/y", b"ok")
    assert second.status == 404


async def test_supervisor_that_is_silent_makes_it_unready_and_holds_no_bid_up() -> None:
    async with probed() as (service, _), connected(service.port) as probe:
        _get(probe)
        async with connected(service.port) as client:
            assert (await client.post(bid_request())).status == 200
        answer = await probe.answer()

    assert answer.status == 503
    assert b'"ready": false' in answer.body


async def test_supervisor_that_breaks_off_makes_it_unready() -> None:
    async with probed(_ANSWER[:-1]) as (service, supervisor), connected(service.port) as client:
        supervisor.may_answer.set()
        _get(client)

        assert (await client.answer()).status == 503


async def test_supervisor_that_is_gone_makes_it_unready() -> None:
    async with started(_NOWHERE) as service, connected(service.port) as client:
        service.worker.bids.probes = Probes(b"\0gone", has_health=True, has_metrics=True)
        _get(client)

        assert (await client.answer()).status == 503


async def test_questions_beyond_so_many_are_answered_at_once() -> None:
    async with probed() as (service, supervisor), connected(service.port) as crowd:
        for _ in range(_MOST):
            _get(crowd)
        await eventually(lambda: len(supervisor.asked) == _MOST)
        async with connected(service.port) as client:
            _get(client)
            answer = await client.answer()
        supervisor.may_answer.set()
        others = [(await crowd.answer()).status for _ in range(_MOST)]

    assert answer.status == 503
    assert others == [200] * _MOST


async def test_client_that_is_gone_before_the_answer_disturbs_nobody() -> None:
    async with probed() as (service, supervisor):
        async with connected(service.port) as client:
            _get(client)
            await eventually(lambda: supervisor.asked != [])
            client.reset()
        await eventually(lambda: not service.worker.site.connections)
        supervisor.may_answer.set()
        async with connected(service.port) as other:
            _get(other)

            assert (await other.answer()).status == 200


async def test_metrics_stay_where_they_are_if_health_alone_is_on_the_port() -> None:
    async with probed() as (service, _), connected(service.port) as client:
        _get(client, "/metrics")

        assert (await client.answer()).error == "unknown_path"
