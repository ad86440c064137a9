"""
Thirty seconds of 1,000 bids/s of a pod to which everything happens: no answer is wrong.

An answer is right if it is the enriched request, for who may be enriched, or the request itself.
"""

import asyncio
import json
import os
import shutil
import signal
import time
from collections import Counter

import pytest
from msgspec.structs import replace

from loadtest.open_loop import NotAnswered, open_loop, steady_ns
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.store.published.latest import read, sign
from tests.e2e.service import bid_request
from tests.segments.follow.conftest import KEY, TRUSTED, Link
from tests.segments.follow.test_serve import EMAIL, OTHER, Pod, pod
from tests.segments.follow.test_serve import person as person  # noqa: PLC0414 - a fixture

PER_S, SECONDS, CONNECTIONS = 1_000, 6, 32


class Load:
    """Bids of two persons in turn, and the judge of their answers."""

    def __init__(self, running: Pod) -> None:
        self._running = running
        self.bodies = [json.dumps(bid_request(email)).encode() for email in (EMAIL, OTHER)]
        self.enriched: list[bytes] = []
        self.is_no = False
        """Whether the first person's no is in force in the pod."""
        self.ended: Counter[str] = Counter()
        self.wrong: list[bytes] = []

    async def learn(self) -> None:
        """Take the answers that are due to persons who are enriched."""
        for body in self.bodies:
            answer = await self._running.bid(body, "bidder")
            assert answer.outcome == "enriched"
            self.enriched.append(answer.body)

    async def drive(self) -> None:
        """Send for some seconds, or until the pod is gone."""
        sent = [
            b"POST /openrtb2/enrich/bidder HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
            for body in self.bodies
        ] * (PER_S * SECONDS // 2)
        due = steady_ns(PER_S, len(sent))
        address = ("127.0.0.1", self._running.port)
        try:
            await asyncio.to_thread(
                open_loop, address, sent, due_ns=due, connections=CONNECTIONS, read=self.judge
            )
        except NotAnswered:
            self.ended["gone"] += 1

    def judge(self, request: int, received: bytes) -> bool | None:
        head, end, body = received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) < int(length):
            return None
        who = request % 2
        if body == self.bodies[who]:
            self.ended["passed"] += 1
        elif body == self.enriched[who] and not (who == 0 and self.is_no):
            self.ended["enriched"] += 1
        else:
            self.wrong.append(received)
        return True


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_no_answer_is_wrong_whatever_happens_to_the_pod(link: Link, person: Id) -> None:
    publisher = link.publisher(["bidder"])
    await publisher.step()
    async with pod(link) as running:
        await running.until_ready()
        load = Load(running)
        await load.learn()

        async def during(*happenings: str) -> None:
            driving = asyncio.create_task(load.drive())
            await asyncio.sleep(1)  # of load, before it happens
            for happening in happenings:
                await happen(happening)
            await driving

        async def happen(what: str) -> None:
            latest = link.directory / "LATEST"
            match what:
                case "a no":
                    ids = [(IdentifierKind.EMAIL, person)]
                    history = link.history
                    action = OptOutAction.RESTRICT
                    await record_opt_out(history.ledger, history.redis, action, ids, None)
                    await publisher.step()
                    await running.until("opted_out", bid_request(EMAIL), "bidder")
                    load.is_no = True
                case "its store is killed":
                    os.kill(running.child("valkey"), signal.SIGKILL)
                case "the mount goes stale":
                    raw = read(latest.read_bytes(), TRUSTED)
                    old = replace(raw, number=raw.number + 1, made_at_s=time.time() - 1000)
                    latest.write_bytes(sign(old, KEY))
                    await running.until("store_down", bid_request(OTHER), "bidder")
                case "files vanish":
                    for path in link.directory.glob("*.seg"):
                        path.unlink()
                case "the mount vanishes":
                    shutil.rmtree(link.directory)
                case "it is published anew":
                    link.clock.ahead_s += 30
                    await link.publisher(["bidder"]).step()
                case "the pod is killed":
                    os.kill(running.process.pid, signal.SIGKILL)
                    await running.process.wait()

        await during("a no")
        await during("its store is killed")
        await during("the mount goes stale", "it is published anew")
        await running.until("enriched", bid_request(OTHER), "bidder")
        await during("files vanish", "its store is killed", "it is published anew")
        await running.until("enriched", bid_request(OTHER), "bidder")
        await during("the mount vanishes")
        await happen("it is published anew")
        await during("the pod is killed")
        await running.start()
        await running.until_ready()
        await during()

    assert not load.wrong, load.wrong[:3]
    assert load.ended["enriched"] > 20_000 / 4
    assert load.ended["passed"] > load.ended["gone"] == 1
