"""A bid explained over a store: by the command of the data plane, and on the admin port."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from rtb.explain import segments as shown
from rtb.server.explain_endpoint import ExplainEndpoint
from rtb.server.metrics.admin_port import Board
from rtb.server.metrics.layout import Gauge
from rtb.settings import RtbSettings
from segments.model.explained_bid import (
    WORKERS_DIFFER,
    Asked,
    Explanation,
    in_words,
    trail_digest,
)
from segments.model.identity import id_of_email_hash
from segments.store.servers.connection import connect
from tests.edge.client import connected
from tests.edge.processes import Listener, listening
from tests.edge.small_store import MEMBER, bid_request, eventually, furnish, started
from tests.engines import Engine

KEY = bytes(range(16))
SECRET = "a-secret-of-the-listener"


async def explain(store: Engine, *options: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run `python -m rtb explain`: its status, and what it writes to stdout and stderr."""
    env = {name: value for name, value in os.environ.items() if "RTB_" not in name}
    env["SEGMENTS_REDIS_URL"] = store.url
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rtb", "explain", *options),
        env=env,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    said, complaint = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, said.decode(), complaint.decode()


async def furnished(store: Engine) -> None:
    async with connect(store.url) as redis:
        await furnish(redis)


async def test_command_says_in_words_what_became_of_a_bid(valkey: Engine, tmp_path: Path) -> None:
    await furnished(valkey)
    request = tmp_path / "request.json"
    request.write_bytes(bid_request())

    status, said, _ = await explain(valkey, str(request), "--recipient", "dsp-a")

    assert status == 0
    assert said.startswith("enriched\n2 segments added, for dsp-a, by catalog 1\n+ Decode")
    assert "1 · email  user.eids[0].uids[0]  rule 3: liveintent.com" in said
    assert '{"id":"101"},{"id":"102"}' in said
    assert MEMBER not in said


async def test_command_answers_a_question_as_the_port_does(valkey: Engine) -> None:
    await furnished(valkey)
    asked = Asked(bid_request().decode(), "dsp-held-out", at_s=1.8e9, trail_key=KEY.hex())

    status, said, _ = await explain(valkey, "--wire", stdin=msgspec.json.encode(asked))

    explanation = msgspec.json.decode(said, type=Explanation)
    assert status == 0
    assert (explanation.outcome, explanation.at_s) == ("held_out", 1.8e9)
    assert explanation.subjects == (trail_digest(KEY, id_of_email_hash(MEMBER)),)


async def test_command_says_what_keeps_it_from_explaining(
    engine: Engine, redis_client: Redis
) -> None:
    """No store that is ours, and then no recipient of that name."""
    empty = await explain(engine, "-", stdin=bid_request())
    await furnish(redis_client)
    nobody = await explain(engine, "-", "--recipient", "dsp-z", stdin=bid_request())
    no_file = await explain(engine, "nowhere.json")

    assert [status for status, _, _ in (empty, nobody, no_file)] == [1, 1, 1]
    assert empty[2].startswith("rtb: the store has no seg:1:meta")
    assert nobody[2].startswith("rtb: no active recipient has that name")
    assert no_file[2] == "rtb: the request can't be read (FileNotFoundError)\n"


class Port:
    """`POST /explain` of a listener's admin port."""

    def __init__(self, listener: Listener, session: aiohttp.ClientSession) -> None:
        self.listener = listener
        self._session = session

    async def post(self, body: bytes, token: str = SECRET) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.listener.admin_port}/explain"
        bearer = {"Authorization": f"Bearer {token}"}
        async with self._session.post(url, data=body, headers=bearer) as answer:
            return answer.status, await answer.read()

    async def ask(self, **asked: Any) -> Explanation:
        status, body = await self.post(msgspec.json.encode(Asked(**asked)))
        assert status == 200, body
        return msgspec.json.decode(body, type=Explanation)


async def test_port_explains_to_who_has_the_secret_and_counts_no_bid(
    valkey: Engine,
) -> None:
    await furnished(valkey)
    request = bid_request().decode()
    async with (
        listening(redis_url=valkey.url, explain_secret=SECRET) as listener,
        aiohttp.ClientSession() as session,
    ):
        await eventually(listener.is_ready)
        port = Port(listener, session)
        explanation = await port.ask(request=request, recipient="dsp-a")
        statuses = [
            (await port.post(body, token))[0]
            for body, token in (
                (b"{}", SECRET),
                (b"{}", "another-secret-than-that"),
                (msgspec.json.encode(Asked(request, "dsp-z")), SECRET),
                (msgspec.json.encode(Asked("x" * (256 << 10))), SECRET),
                (b'{"request":"{}","trail_key":"zz"}', SECRET),
            )
        ]
        async with connected(listener.port) as client:
            on_bid_port = await client.post(b"{}", "/explain")
        answered = await listener.metric(
            'rtb_requests_total{outcome="enriched",reason="",recipient="dsp-a"}'
        )

    assert (explanation.outcome, explanation.added) == ("enriched", 2)
    assert statuses == [400, 401, 400, 413, 400]
    assert on_bid_port.status == 404
    assert answered == 0
    assert MEMBER not in "".join(listener.log)


async def test_port_without_a_secret_has_no_such_path(valkey: Engine) -> None:
    async with listening(redis_url=valkey.url) as listener, aiohttp.ClientSession() as session:
        assert (await Port(listener, session).post(b"{}"))[0] == 404


async def answers(
    endpoint: ExplainEndpoint, *bodies: bytes, board: Board | None = None
) -> list[tuple[int, dict[str, Any]]]:
    """Put questions to an endpoint, all at once."""
    app = web.Application()
    if board is None:
        endpoint.add_to(app)
    else:
        endpoint.add_to(app, board.unlike)
    bearer = {"Authorization": f"Bearer {SECRET}"}

    async def post(client: TestClient[Any, Any], body: bytes) -> tuple[int, dict[str, Any]]:
        async with client.post("/explain", data=body, headers=bearer) as answer:
            return answer.status, await answer.json(content_type=None)

    async with TestClient(TestServer(app)) as client:
        return list(await asyncio.gather(*(post(client, body) for body in bodies)))


async def test_endpoint_goes_by_the_settings_of_a_roll_and_counts_our_faults(
    valkey: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnished(valkey)
    bugs: list[None] = []
    asked = msgspec.json.encode(Asked(bid_request(device={"dnt": 1}).decode(), "dsp-a"))

    def endpoint(**settings: Any) -> ExplainEndpoint:
        of_start = RtbSettings(redis_url=valkey.url)
        made = ExplainEndpoint(SECRET, of_start, lambda: bugs.append(None))
        if settings:
            made.adopt(RtbSettings(redis_url=valkey.url, **settings))
        return made

    [(_, before)] = await answers(endpoint(), asked)
    [(_, rolled)] = await answers(endpoint(dnt_refuses=True), asked)
    crowd = await answers(endpoint(), *[asked] * 12)
    monkeypatch.setattr(shown, "hidden_because", lambda *_: "another rule")
    [(status, fault)] = await answers(endpoint(), asked)

    assert (before["outcome"], rolled["reason"]) == ("enriched", "dnt")
    assert {status for status, _ in crowd} == {200, 503}
    assert status == 500
    assert fault["detail"].startswith("a fault of ours")
    assert len(bugs) == 1


async def test_explanation_says_which_worker_answers_otherwise_now(valkey: Engine) -> None:
    await furnished(valkey)
    endpoint = ExplainEndpoint(SECRET, RtbSettings(redis_url=valkey.url), lambda: None)
    request = bid_request()
    now, then = (
        msgspec.json.encode(Asked(request.decode(), "dsp-a", at_s)) for at_s in (None, 1.8e9)
    )

    # No loader confirms to this worker that opt-outs reach the store.
    async with started(valkey.url, opt_outs_max_age_s=60) as service:
        board = Board([service.counters])

        async def is_stale() -> bool:
            [(_, said)] = await answers(endpoint, now, board=board)
            return "worker 0: store opt_outs_stale" in said["workers"]

        await eventually(is_stale)
        [(_, stale), (_, elsewhen)] = await answers(endpoint, now, then, board=board)
        async with connected(service.port) as client:
            bid = await client.post(request)
        counted = service.count("store_down", "opt_outs_stale")

    async with started(valkey.url) as service:
        board = Board([service.counters])
        await eventually(lambda: board.health().is_enriching)
        [(_, alike)] = await answers(endpoint, now, board=board)
        service.counters.cells[Gauge.CATALOG_VERSION] += 1
        [(_, ahead)] = await answers(endpoint, now, board=board)

    assert (bid.outcome, counted) == ("store_down", 1)
    assert stale["outcome"] == "enriched"
    assert elsewhen["workers"] == alike["workers"] == []
    assert ahead["workers"] == [f"worker 0: catalog {alike['catalog_version'] + 1}"]
    text = in_words(msgspec.convert(ahead, Explanation))
    assert f"! {WORKERS_DIFFER}\n    worker 0: catalog" in text


async def test_endpoint_says_that_the_store_is_away(engine: Engine) -> None:
    engine.stop()
    made = ExplainEndpoint(SECRET, RtbSettings(redis_url=engine.url), lambda: None)

    [(status, problem)] = await answers(made, msgspec.json.encode(Asked("{}")))
    engine.start()

    assert status == 503
    assert problem["detail"].startswith("the store can't be read: ")
