"""A soak's driver notices each fault, and counts everything else for what it is."""

import asyncio
import queue
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from loadtest.judge import CLOSE, Due
from loadtest.soak.drive import Driver
from loadtest.soak.shared import Count, Shared, WaveState
from tests.edge.small_store import eventually
from tests.loadtest.dues import BODY, CHANGING, STEADY, answer
from tests.tls import TestCa

Reply = Callable[[int], bytes | None]


@asynccontextmanager
async def serving(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answer the n-th request of all with `reply(n)`; nothing: close."""
    served = 0
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readexactly(len(BODY))
                served += 1
                said = reply(served)
                if said is None:
                    break
                writer.write(said)
                if CLOSE in said:
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        await asyncio.gather(*filter(None, serving))


async def driven(
    reply: Reply, shared: Shared, due: Due = STEADY, ca: TestCa | None = None
) -> queue.Queue[str]:
    notes: queue.Queue[str] = queue.Queue()
    tls = None
    if ca is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(ca.cert, ca.key)
    async with serving(reply, tls) as port:
        driver = Driver(0, [due], port, shared, notes, None if ca is None else ca.client())
        driving = asyncio.create_task(driver.run(connections=3))
        await eventually(lambda: shared.total(Count.ANSWERED) + shared.total(Count.LOST) > 300)
        shared.ends()
        await driving
    return notes


@pytest.fixture
def shared() -> Shared:
    return Shared(get_context("spawn"), drivers=1, waves=1)


async def test_right_answers_are_counted_and_nothing_else(shared: Shared) -> None:
    notes = await driven(lambda _: answer(), shared)

    counted = {count.name: shared.total(count) for count in Count}
    assert counted["ANSWERED"] == counted["RIGHT"] >= 300
    assert counted["WRONG"] == counted["LOST"] == 0
    assert counted["IN_FULL"] == 1
    assert notes.empty()


async def test_connection_that_says_it_ends_is_followed_by_another(shared: Shared) -> None:
    polite = answer().replace(b"Content-Length", CLOSE + b"Content-Length")

    await driven(lambda n: polite if n % 50 == 0 else answer(), shared)

    assert shared.total(Count.ENDED_POLITELY) >= 5
    assert shared.total(Count.RIGHT) == shared.total(Count.ANSWERED)
    assert shared.total(Count.WRONG) == 0


async def test_fields_that_nginx_adds_are_no_part_of_an_answer(
    shared: Shared, tmp_path: Path
) -> None:
    def by_nginx(n: int) -> bytes:
        kept = "close" if n % 50 == 0 else "keep-alive"
        head = f"Server: nginx\r\nDate: Mon, {n}\r\nConnection: {kept}\r\nX-Enrich".encode()
        return answer("enriched" if n == 200 else "no_match").replace(b"X-Enrich", head, 1)

    notes = await driven(by_nginx, shared, ca=TestCa.in_folder(tmp_path))

    assert shared.total(Count.WRONG) == 1
    assert "outcome" in notes.get_nowait()
    assert shared.total(Count.RIGHT) == shared.total(Count.ANSWERED) - 1
    assert shared.total(Count.ENDED_POLITELY) >= 5
    assert shared.total(Count.IN_FULL) == 2


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        pytest.param(answer("enriched"), "outcome", id="another outcome"),
        pytest.param(answer(body=b'{"id":1}'), "bytes that are not", id="another body"),
        pytest.param(answer() + b"x", "belong to no answer", id="bytes behind it"),
        pytest.param(None, "with a request in flight", id="a connection cut off"),
    ],
)
async def test_one_fault_among_many_is_noticed(
    shared: Shared, fault: bytes | None, why: str
) -> None:
    notes = await driven(lambda n: fault if n == 200 else answer(), shared)

    assert shared.total(Count.WRONG) == 1
    assert why in notes.get_nowait()


async def test_connection_that_is_lost_with_its_worker_is_lost_and_not_wrong(
    shared: Shared,
) -> None:
    shared.kills(time.monotonic_ns())

    await driven(lambda n: None if n % 100 == 0 else answer(), shared)

    assert shared.total(Count.LOST) >= 2
    assert shared.total(Count.WRONG) == 0


@pytest.mark.parametrize("is_broken", [True, False])
async def test_what_passes_through_is_counted_by_whether_anything_was_broken(
    shared: Shared, is_broken: bool
) -> None:
    if is_broken:
        shared.breaks()

    await driven(lambda n: answer("store_down") if n % 10 == 0 else answer(), shared)

    late = shared.total(Count.ANSWERED) - shared.total(Count.RIGHT)
    assert shared.total(Count.STORE_DOWN if is_broken else Count.CALM_STORE_DOWN) == late > 20
    assert shared.total(Count.WRONG) == 0


async def test_old_answer_after_a_wave_is_over_is_wrong(shared: Shared) -> None:
    shared.waves[0] = WaveState.OVER

    notes = await driven(lambda n: answer("no_match" if n == 7 else "opted_out"), shared, CHANGING)

    assert shared.total(Count.WRONG) == 1
    assert "outcome 'no_match', not 'opted_out'" in notes.get_nowait()


@pytest.mark.parametrize("is_emptied", [True, False])
async def test_person_is_missed_in_a_store_that_was_emptied_and_in_no_other(
    shared: Shared, is_emptied: bool
) -> None:
    shared.waves[0] = WaveState.OVER
    if is_emptied:
        shared.empties()
    else:
        shared.breaks()

    await driven(lambda _: answer("no_match"), shared, CHANGING)

    passed, wrong = shared.total(Count.STORE_DOWN), shared.total(Count.WRONG)
    assert (passed > 0, wrong > 0) == (is_emptied, not is_emptied)
