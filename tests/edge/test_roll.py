"""SIGHUP: every worker is replaced, settings are read anew, and no client notices."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from segments.store.servers.connection import connect
from tests.edge.client import connected, request
from tests.edge.processes import Listener, listening
from tests.edge.small_store import added_data, bid_request, eventually, furnish
from tests.engines import Engine

COUNTED = 'rtb_request_seconds_bucket{le="+Inf"}'


class Clients:
    """Exchanges that ask on and on, and what became of it."""

    def __init__(self, port: int) -> None:
        self.outcomes: list[str] = []
        self.faults: list[str] = []
        self.is_over = False
        self._port = port

    async def keep_alive(self) -> None:
        """Ask over one connection until told that it ends, then over the next."""
        async with connected(self._port) as client:
            while not self.is_over:
                answer = await client.post(bid_request())
                self.outcomes.append(answer.outcome)
                if answer.headers.get("connection") == "close":
                    return

    async def afresh(self) -> None:
        """Ask once, over a connection of its own."""
        async with connected(self._port) as client:
            self.outcomes.append((await client.post(bid_request())).outcome)

    async def again_and_again(self, ask: Callable[[], Coroutine[None, None, None]]) -> None:
        """Ask until it is over, and go on after whatever goes wrong."""
        while not self.is_over:
            try:
                await ask()
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.faults.append(repr(error))


@asynccontextmanager
async def bidding(listener: Listener) -> AsyncIterator[Clients]:
    """Have ten clients ask without a pause, and end when they have their last answers."""
    clients = Clients(listener.port)
    async with asyncio.TaskGroup() as group:
        for ask in [clients.keep_alive] * 6 + [clients.afresh] * 4:
            group.create_task(clients.again_and_again(ask))
        try:
            await eventually(lambda: len(clients.outcomes) > 100)
            yield clients
        finally:
            clients.is_over = True


@asynccontextmanager
async def furnished(
    engine: Engine, *, cwd: Path | None = None, workers: int = 2
) -> AsyncIterator[Listener]:
    async with connect(engine.url) as redis:
        await furnish(redis)
    async with listening(redis_url=engine.url, workers=workers, cwd=cwd) as listener:
        await eventually(listener.is_ready)
        yield listener


def hang_up(listener: Listener) -> None:
    listener.process.send_signal(signal.SIGHUP)


def count(listener: Listener, text: str) -> int:
    return sum(text in line for line in listener.log)


async def until_logged(listener: Listener, text: str, times: int = 1) -> None:
    async with asyncio.timeout(30):
        while count(listener, text) < times:
            assert listener.process.returncode is None, listener.log
            await asyncio.sleep(0.01)


async def segments_shown(listener: Listener) -> int:
    async with connected(listener.port) as client:
        (data,) = added_data((await client.post(bid_request())).body)
    return len(data["segment"])


async def test_roll_replaces_every_worker_and_no_client_notices(valkey: Engine) -> None:
    counts: list[float] = []
    unready: list[str] = []

    async def watch(listener: Listener) -> None:
        while True:
            counts.append(await listener.metric(COUNTED))
            status, text = await listener.get("/health/ready?strict")
            if status != 200:
                unready.append(text)

    async with furnished(valkey) as listener:
        before = set(listener.workers())
        async with bidding(listener) as clients:
            watching = asyncio.create_task(watch(listener))
            hang_up(listener)
            await until_logged(listener, "rolled 2 worker(s)")
            watching.cancel()
        after = set(listener.workers())
        counted = await listener.metric(COUNTED)

    assert (clients.faults, set(clients.outcomes)) == ([], {"enriched"})
    assert len(before) == len(after) == 2
    assert not before & after
    assert unready == []
    assert counts == sorted(counts)
    assert counted == len(clients.outcomes)


async def test_roll_reads_the_settings_anew(valkey: Engine, tmp_path: Path) -> None:
    async with furnished(valkey, cwd=tmp_path) as listener:
        before = await segments_shown(listener)
        (tmp_path / ".env").write_text(
            "RTB_MAX_SEGMENTS=1\nRTB_ADMIN_TLS_CERT=x\nRTB_ADMIN_TLS_KEY=y\n"
        )
        hang_up(listener)
        await until_logged(listener, "rolled 2 worker(s)")

        assert before == 2
        assert await segments_shown(listener) == 1
        assert count(listener, "RTB_ADMIN_TLS_CERT is read at the start only") == 1


async def test_wrong_settings_stop_a_roll_and_not_the_workers(
    valkey: Engine, tmp_path: Path
) -> None:
    """
    Nor do they keep a worker that dies later from being started again.
    """
    async with furnished(valkey, cwd=tmp_path) as listener:
        before = listener.workers()
        (tmp_path / ".env").write_text("RTB_MAX_IDS=many\nRTB_TCF_PURPOSES=x\n")
        hang_up(listener)
        await until_logged(listener, "not rolled")
        lines = [line for line in listener.log if "RTB_MAX_IDS" in line]

        assert listener.workers() == before
        assert len(lines) == 1
        assert "RTB_MAX_IDS=many: not a whole number; RTB_TCF_PURPOSES" in lines[0]

        os.kill(before[0], signal.SIGKILL)
        await until_logged(listener, "starting it again")
        await eventually(listener.is_ready)

        assert len(listener.workers()) == 2


async def test_successor_that_ends_stops_the_roll_and_its_incumbent_goes_on(
    valkey: Engine,
) -> None:
    async with furnished(valkey) as listener:
        before = listener.workers()
        async with bidding(listener) as clients:
            hang_up(listener)
            await eventually(lambda: len(listener.workers()) == 3)
            (successor,) = set(listener.workers()) - set(before)
            os.kill(successor, signal.SIGKILL)
            await until_logged(listener, "roll stopped, worker 0")

        assert listener.workers() == before
        assert (clients.faults, set(clients.outcomes)) == ([], {"enriched"})


async def test_worker_killed_during_a_roll_is_started_again_and_the_roll_goes_on(
    valkey: Engine,
) -> None:
    async with furnished(valkey) as listener:
        before = set(listener.workers())
        hang_up(listener)
        await eventually(lambda: len(listener.workers()) == 3)
        os.kill(min(before), signal.SIGKILL)
        await until_logged(listener, "rolled 2 worker(s)")
        await eventually(listener.is_ready)

        assert count(listener, "ended with status -9; starting it again") == 1
        assert len(listener.workers()) == 2
        assert not before & set(listener.workers())
        async with bidding(listener) as clients:
            pass
        assert (clients.faults, set(clients.outcomes)) == ([], {"enriched"})


async def test_second_hang_up_during_a_roll_is_not_lost(valkey: Engine) -> None:
    async with furnished(valkey) as listener:
        hang_up(listener)
        await until_logged(listener, "rolling 2 worker(s)")
        between = set(listener.workers())
        hang_up(listener)
        hang_up(listener)
        await until_logged(listener, "rolled 2 worker(s)", times=2)
        await eventually(listener.is_ready)

        assert not between & set(listener.workers())
        assert count(listener, "rolling 2 worker(s)") == 2


@pytest.mark.parametrize("stage", ["rolling 2 worker(s)", "drains"])
async def test_sigterm_during_a_roll_ends_every_process_and_breaks_no_answer(
    valkey: Engine, stage: str
) -> None:
    async with furnished(valkey) as listener, connected(listener.port) as client:
        # Half a request: whoever has it is not done with its drain before the rest is here.
        whole = request(bid_request())
        client.send(whole[:-9])
        hang_up(listener)
        await until_logged(listener, stage)
        await eventually(lambda: len(listener.workers()) == 3)
        pids = listener.workers()
        listener.process.terminate()
        await until_logged(listener, "draining")
        client.send(whole[-9:])
        answer = await client.answer()
        status = await listener.process.wait()

    assert (status, answer.outcome) == (0, "enriched")
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
