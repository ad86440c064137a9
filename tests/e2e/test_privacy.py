"""A privacy officer's day: requests over HTTP, and what the next bid request shows."""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from loadtest.ports import free_ports
from tests.e2e.service import Service, bid_request, processes_of, sha256

pytestmark = pytest.mark.timeout(300)  # some ten processes are started one after another

ALICE, BOB, CAROL = "alice@example.com", "bob@example.com", "carol@example.com"
PERSONS = [f"person-{number}@example.com" for number in range(60)]
CLIENTS = 12


class PrivacyService:
    """A running service with a publisher, its advertiser, and another one; all persons in both."""

    def __init__(self, service: Service, api_port: int) -> None:
        self.service = service
        self.api = f"http://127.0.0.1:{api_port}"
        self.tokens: dict[str, str] = {}

    async def furnish(self) -> None:
        command = self.service.command
        for kind, account in (("publisher", "pub-1"), ("advertiser", "a1"), ("advertiser", "a2")):
            await command("account", "add", "--kind", kind, "--id", account, "--name", account)
        await command("account", "relate", "pub-1", "a1")
        for account in ("pub-1", "a1"):
            self.tokens[account] = await self._token("--account", account)
        self.tokens["global"] = await self._token()
        for partner in ("a1", "a2"):
            await self.service.load([ALICE, BOB, CAROL, *PERSONS], [("1", "add")], partner)
        await command("recipient", "add", "dsp-a", "--partner", "a1", "--partner", "a2")
        await self.service.until("enriched", bid_request(ALICE), "dsp-a")

    async def _token(self, *options: str) -> str:
        said = await self.service.command("token", "create", *options)
        return next(word for word in said.split() if word.startswith("rtbp_"))

    async def submit(
        self, session: aiohttp.ClientSession, email: str, *, by: str = "global",
        action: str = "RESTRICT",
    ) -> None:  # fmt: skip
        body = {"action": action, "emailHashes": [sha256(email)]}
        headers = {"Authorization": f"Bearer {self.tokens[by]}"}
        url = f"{self.api}/data-subject-requests"
        async with session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()

    async def shown(self, email: str, publisher: str) -> list[str]:
        """Return whose segments a bid request of a person on a publisher's site gets."""
        request = bid_request(email)
        request["site"]["publisher"]["id"] = publisher
        answer = await self.service.bid(request, "dsp-a")
        return sorted(set(answer.segment_ids) - {"other"})


@pytest.fixture
def cache_bytes() -> int:
    """What each worker may keep; a test that wants a near cache says so."""
    return 0


@pytest.fixture
async def world(tmp_path: Path, cache_bytes: int) -> AsyncIterator[PrivacyService]:
    (api_port,) = free_ports(1)
    service = Service(
        tmp_path,
        RTB_WORKERS="2",
        RTB_CACHE_BYTES=str(cache_bytes),
        SEGMENTS_API_PORT=str(api_port),
    )
    try:
        async with service.running():
            world = PrivacyService(service, api_port)
            await world.furnish()
            yield world
    finally:
        for pid in processes_of(service):
            os.kill(pid, signal.SIGKILL)


async def test_first_bid_after_the_answer_is_suppressed_as_far_as_the_request_reaches(
    world: PrivacyService,
) -> None:
    """
    By an advertiser: its own segments. By a publisher: all on its inventory, and
    its related advertiser's everywhere. By everyone: everything.
    """
    async with aiohttp.ClientSession() as session:
        await world.submit(session, ALICE, by="a1")
        advertisers = [await world.shown(ALICE, "pub-1"), await world.shown(ALICE, "pub-2")]

        await world.submit(session, BOB, by="pub-1")
        publishers = [await world.shown(BOB, "pub-1"), await world.shown(BOB, "pub-2")]

        await world.submit(session, CAROL, action="ERASURE")
        everyones = [await world.shown(CAROL, "pub-1"), await world.shown(CAROL, "pub-2")]

    assert advertisers == [["a2"], ["a2"]]
    assert publishers == [[], ["a2"]]
    assert everyones == [[], []]


@pytest.mark.parametrize("cache_bytes", [0, 1_000_000], ids=["no cache", "near cache"])
async def test_under_load_not_one_bid_after_the_answer_is_enriched(
    world: PrivacyService, cache_bytes: int
) -> None:
    """
    Clients bid without a pause, on two workers, while person after person says
    no. What counts is when a bid was sent: once the request was answered, never.
    """
    loop = asyncio.get_running_loop()
    email_to_answered_at_s: dict[str, float] = {}
    is_over = asyncio.Event()
    seen: Counter[str] = Counter()
    wrong: list[Any] = []

    async def bid_without_a_pause(seed: int) -> None:
        rng = random.Random(seed)
        url = f"http://127.0.0.1:{world.service.port}/openrtb2/enrich/dsp-a"
        bodies = {email: json.dumps(bid_request(email)).encode() for email in PERSONS}
        # A connection of its own: the kernel deals these out to the workers.
        async with aiohttp.ClientSession() as session:
            while not is_over.is_set():
                email = rng.choice(PERSONS)
                sent_at_s = loop.time()
                async with session.post(url, data=bodies[email]) as answer:
                    outcome = answer.headers["X-Enrich-Outcome"]
                    has_ours = b'"a1"' in await answer.read()
                answered_at_s = email_to_answered_at_s.get(email, float("inf"))
                is_after = sent_at_s >= answered_at_s
                seen[f"{outcome} {'after' if is_after else 'before'}"] += 1
                if is_after and (outcome == "enriched" or has_ours):
                    wrong.append((outcome, sent_at_s - answered_at_s))

    async def say_no() -> None:
        async with aiohttp.ClientSession() as session:
            for number, email in enumerate(PERSONS):
                action = "ERASURE" if number % 3 == 0 else "RESTRICT"
                await world.submit(session, email, action=action)
                email_to_answered_at_s[email] = loop.time()
                # At once, by several at a time: this is the moment that counts.
                answers = await asyncio.gather(
                    *(world.service.bid(bid_request(email), "dsp-a") for _ in range(4))
                )
                wrong.extend(a.outcome for a in answers if a.outcome != "opted_out")

    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for seed in range(CLIENTS):
            group.create_task(bid_without_a_pause(seed))
        await say_no()
        is_over.set()
    hits = await world.service.metric('rtb_cache_events_total{event="hits"}')

    assert wrong == []
    assert seen["enriched before"] > 100, seen
    assert seen["opted_out after"] > 100, seen
    assert (hits > 100) == (cache_bytes > 0), hits
