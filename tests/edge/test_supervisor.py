"""The listener as a whole: several workers, health, metrics, drain, death."""

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from importlib.metadata import version

import pytest
from redis.asyncio import Redis

from loadtest.ports import free_ports
from segments.store.servers.connection import connect
from tests.edge.client import Answer, connected
from tests.edge.processes import Listener, listening, start
from tests.edge.small_store import (
    MEMBER,
    OPTED_OUT,
    STRANGER,
    bid_request,
    caught_up,
    eventually,
    furnish,
)
from tests.engines import Engine

ENRICHED = 'rtb_requests_total{outcome="enriched",reason="",recipient="dsp-a"}'


async def ask_all_workers(listener: Listener, requests: int) -> list[Answer]:
    """Send each request over a connection of its own: the kernel deals them out."""
    answers = []
    for _ in range(requests):
        async with connected(listener.port) as client:
            answers.append(await client.post(bid_request()))
    return answers


async def test_metrics_are_summed_over_the_workers(engine: Engine, redis_client: Redis) -> None:
    await furnish(redis_client)

    async with listening(redis_url=engine.url, workers=2) as listener:
        await eventually(listener.is_ready)
        answers = await ask_all_workers(listener, 40)

        assert {answer.outcome for answer in answers} == {"enriched"}
        assert await listener.metric(ENRICHED) == 40
        assert await listener.metric('rtb_request_seconds_bucket{le="+Inf"}') == 40
        assert await listener.metric('rtb_ids_total{kind="email",result="found"}') == 40
        assert await listener.metric("rtb_store_up") == 1


async def test_health_says_why_bids_pass_through_and_goes_on_being_ready(
    engine: Engine, redis_client: Redis
) -> None:
    await furnish(redis_client)

    async with listening(redis_url=engine.url) as listener:
        await eventually(listener.is_ready)
        engine.stop()
        await eventually(lambda: _is_unready(listener))
        paths = ("/health/live", "/heartbeat", "/health/ready", "/healthz", "/healthcheck")
        statuses = [(await listener.get(path))[0] for path in paths]
        strict = [(await listener.get(f"{path}?strict"))[0] for path in paths]
        said = json.loads((await listener.get("/health/ready"))[1])
        engine.start()
        await caught_up(redis_client)
        await eventually(listener.is_ready)

    assert statuses == [200] * 5
    assert strict == [200, 200, 503, 503, 503]
    assert said.pop("reason").startswith("worker 0: store ")
    assert said == {
        "status": "degraded",
        "ready": True,
        "version": version("rtb-segments"),
        "enriching": False,
    }


async def test_worker_that_never_could_enrich_is_not_ready_and_answers_nevertheless(
    engine: Engine,
) -> None:
    """
    A rollout waits for it: a release that can't reach the store goes no further.
    """
    engine.stop()
    async with listening(redis_url=engine.url) as listener:
        status, text = await listener.get("/health/ready")
        [bid] = await ask_all_workers(listener, 1)
    engine.start()

    assert status == 503
    assert json.loads(text)["status"] == "not_ready"
    assert (bid.status, bid.outcome) == (200, "store_down")


async def test_listener_that_starts_refuses_clients_until_it_can_enrich(
    valkey: Engine,
) -> None:
    """
    A balancer that asks for no health tries another replica, where the bid is enriched.
    """
    async with connect(valkey.url) as redis:
        await furnish(redis)
    port, admin_port = free_ports(2)
    process = await start(
        host="127.0.0.1", port=port, admin_port=admin_port, redis_url=valkey.url,
        deadline_cap_ms=5_000, tmax_share=1,
    )  # fmt: skip
    refused, outcome = 0, ""
    try:
        while not outcome:
            assert process.returncode is None
            try:
                async with connected(port) as client:
                    outcome = (await client.post(bid_request())).outcome
            except ConnectionRefusedError:
                refused += 1
                await asyncio.sleep(0.001)
    finally:
        process.terminate()
        await process.communicate()

    assert refused > 0
    assert outcome == "enriched"


async def test_killed_worker_is_started_again_and_goes_on_counting(valkey: Engine) -> None:
    async with listening(redis_url=valkey.url) as listener:
        await furnish_and_wait(valkey, listener)
        await ask_all_workers(listener, 3)
        (worker,) = listener.workers()
        os.kill(worker, signal.SIGKILL)
        # Connected while nobody is there to accept: it waits for the next worker.
        async with connected(listener.port) as client:
            answer = await client.post(bid_request())
        await eventually(listener.is_ready)

        assert answer.status == 200
        assert listener.workers() != [worker]
        assert await listener.metric(ENRICHED) >= 3


async def test_sigterm_under_load_breaks_no_answer(engine: Engine, redis_client: Redis) -> None:
    await furnish(redis_client)
    answered: list[str] = []

    async def exchange(port: int) -> None:
        """Ask on and on; connect anew when told to close; stop when refused."""
        while True:
            try:
                client_at = connected(port)
                client = await client_at.__aenter__()
            # Reset: the kernel took it after the worker's last look and before the socket
            # was closed. Nothing was sent on it.
            except (ConnectionRefusedError, ConnectionResetError):
                return
            try:
                while True:
                    answer = await client.post(bid_request())
                    answered.append(answer.outcome)
                    if answer.headers.get("connection") == "close":
                        break
            finally:
                await client_at.__aexit__(None, None, None)

    async with listening(redis_url=engine.url, workers=2) as listener:
        await eventually(listener.is_ready)
        exchanges = [asyncio.create_task(exchange(listener.port)) for _ in range(16)]
        await eventually(lambda: len(answered) > 500)
        listener.process.terminate()
        async with asyncio.timeout(10):
            await asyncio.gather(*exchanges)
            status = await listener.process.wait()

    assert status == 0
    assert set(answered) == {"enriched"}


async def test_sigterm_leaves_a_quiet_client_a_moment_and_then_ends(valkey: Engine) -> None:
    async with listening(redis_url=valkey.url) as listener:
        await furnish_and_wait(valkey, listener)
        async with connected(listener.port) as quiet, connected(listener.port) as late:
            await quiet.post(bid_request())
            listener.process.terminate()
            await eventually(lambda: _refuses(listener.port))
            answer = await late.post(bid_request())

            assert answer.outcome == "enriched"
            assert answer.headers["connection"] == "close"
            assert await quiet.is_closed()
            assert await listener.process.wait() == 0


async def test_sigterm_is_noticed_by_balancers_before_anybody_is_refused(valkey: Engine) -> None:
    """
    A balancer sends on until it has looked; each client is told to connect anew, elsewhere.
    """
    async with listening(redis_url=valkey.url, stop_accepting_after_s=60) as listener:
        await furnish_and_wait(valkey, listener)
        listener.process.terminate()
        await eventually(lambda: _is_unready(listener))
        status, text = await listener.get("/health/ready")

        async def is_told() -> bool:
            async with connected(listener.port) as client:
                answer = await client.post(bid_request())
                assert answer.outcome == "enriched"
                return answer.headers.get("connection") == "close"

        await eventually(is_told)
        assert (status, json.loads(text)["reason"]) == (503, "worker 0: stopping")
        listener.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            assert await listener.process.wait() == 0


async def test_workers_do_not_outlive_their_supervisor(valkey: Engine) -> None:
    async with listening(redis_url=valkey.url, workers=2) as listener:
        workers = listener.workers()
        listener.process.kill()
        await eventually(lambda: not any(_is_alive(pid) for pid in workers))


@pytest.mark.parametrize("setting", ["port", "admin_port"])
async def test_port_in_use_is_one_line_and_no_service(valkey: Engine, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"port": 0, "admin_port": 0, setting: taken.getsockname()[1]}
        process = await start(host="127.0.0.1", workers=2, redis_url=valkey.url, **ports)
        output, _ = await process.communicate()

    assert process.returncode == 1
    assert output.decode().splitlines()[-1].startswith("rtb: can't listen on 127.0.0.1:")


async def test_health_and_metrics_are_shown_to_the_machine_itself_alone(valkey: Engine) -> None:
    """
    They tell how many persons each recipient was shown, and have no password.
    """
    async with listening(redis_url=valkey.url, host="0.0.0.0") as listener:
        assert not await _refuses(listener.port, "127.0.0.2")
        assert await _refuses(listener.admin_port, "127.0.0.2")


async def test_wrong_settings_are_refused_with_a_line_each() -> None:
    process = await start(port="many", workers=0)
    output, _ = await process.communicate()

    assert process.returncode == 2
    assert output.decode().splitlines() == [
        "RTB_PORT=many: not a whole number",
        "RTB_WORKERS=0: must be at least 1",
    ]


@pytest.mark.parametrize("program", ["rtb", "segments serve"])
async def test_number_of_workers_is_an_option_too_and_comes_before_the_variable(
    program: str,
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *program.split(), "--workers", "257"),
        env=os.environ | {"RTB_WORKERS": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()

    assert process.returncode == 2
    assert said.decode() == "RTB_WORKERS=257: must be at most 256\n"


async def test_nothing_of_a_person_is_logged_or_counted(
    engine: Engine, redis_client: Redis
) -> None:
    """
    Planted where ids, addresses and consent strings stand, and where they do not belong.
    """
    planted = [MEMBER, STRANGER, OPTED_OUT, "203.0.113.77", "CPlantedConsentAAA", "1YNPlanted"]
    device = {"ip": "203.0.113.77", "ifa": "11111111-2222-3333-4444-555555555555"}
    bodies = [
        bid_request(digest, device=device, regs={"ext": extra})
        for digest in (MEMBER, STRANGER, OPTED_OUT, None)
        for extra in ({}, {"us_privacy": "1YNPlanted"}, {"gdpr": 1})
    ]
    bodies.append(bid_request(MEMBER, user={"consent": "CPlantedConsentAAA", "id": MEMBER}))
    bodies += [body[:-30] for body in bodies]  # malformed, with ids in it
    await furnish(redis_client)

    async with listening(redis_url=engine.url) as listener:
        await eventually(listener.is_ready)
        async with connected(listener.port) as client:
            for body in bodies:
                await client.post(body, X_Forwarded_For="203.0.113.77")
                await client.post(body, f"/openrtb2/enrich/{MEMBER}", User_Agent=MEMBER)
            client.send(b"GARBAGE " + MEMBER.encode() + b"\r\n\r\n")
            await client.answer()
        engine.stop()
        await eventually(lambda: _is_unready(listener))
        async with connected(listener.port) as client:
            await client.post(bodies[0])
        _, shown = await listener.get("/metrics")
        _, health = await listener.get("/health/ready")
        listener.process.terminate()
        await listener.process.wait()

    seen = shown + health + "".join(listener.log)
    assert [text for text in [*planted, device["ifa"]] if text in seen] == []
    assert "rtb_requests_total" in seen


async def furnish_and_wait(engine: Engine, listener: Listener) -> None:
    async with connect(engine.url) as redis:
        await furnish(redis)
    await eventually(listener.is_ready)


async def _is_unready(listener: Listener) -> bool:
    return not await listener.is_ready()


async def _refuses(port: int, host: str = "127.0.0.1") -> bool:
    with suppress(ConnectionRefusedError):
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
