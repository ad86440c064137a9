"""
The clock of the host is set by an hour, forward and back, while everything runs and works.

By libfaketime below every process, the store's as well; the monotonic clock is left alone, as the
kernel leaves it alone when somebody sets the other. A stamp of before is an hour old then, or of
the time to come.
"""

import asyncio
import hashlib
import io
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from loadtest.ports import free_ports
from tests.e2e.service import Service, bid_request, processes_of, sha256

HOUR_S = 3600
PASSWORD = "correct horse battery"
_NAMES = ("alice", "bob", "carol", "dave", "erin")
ALICE, BOB, CAROL, DAVE, ERIN = (f"{name}@example.com" for name in _NAMES)
MANY = [f"person{n}@example.com" for n in range(60_000)]
_WITHIN_S = 60


class Answer(NamedTuple):
    status: int
    headers: Any
    body: Any


class Host:
    """A running service, its clock, and a partner at its doors."""

    def __init__(self, folder: Path) -> None:
        self.api_port, *admin_ports = free_ports(4)
        self.admin_ports = dict(
            zip(("LOADER", "API_ADMIN", "SFTP_ADMIN"), admin_ports, strict=True)
        )
        self._time = folder / "time"
        self.write_time(0)
        self.service = Service(
            folder,
            LD_PRELOAD=library(),
            FAKETIME_TIMESTAMP_FILE=str(self._time),
            FAKETIME_CACHE_DURATION="1",  # seconds; to read the file at each look costs too much
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            FAKETIME_FORCE_MONOTONIC_FIX="0",  # else threads wait for each other for milliseconds
            NO_FAKE_STAT="1",
            RTB_CACHE_BYTES=str(1 << 20),
            RTB_REMEMBER_SEEN="true",
            SEGMENTS_API_PORT=str(self.api_port),
            SEGMENTS_DROP_QUIET_S="1",
            **{f"SEGMENTS_{name}_PORT": str(port) for name, port in self.admin_ports.items()},
        )
        self.token = self.privacy_token = ""
        self.session = aiohttp.ClientSession()

    def write_time(self, ahead_s: int) -> None:
        new = self._time.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}\n")
        new.rename(self._time)

    async def set_clock(self, ahead_s: int) -> None:
        """Set the clock so far ahead of the kernel's, and wait until every process goes by it."""
        self.write_time(ahead_s)
        async with asyncio.timeout(_WITHIN_S):
            for port in (*self.admin_ports.values(), self.service.admin_port):
                while True:
                    if abs(await self.time_of(port) - time.time() - ahead_s) < HOUR_S / 2:
                        break
                    await asyncio.sleep(0.05)

    async def time_of(self, port: int) -> float:
        said = await self.ask("GET", f"http://127.0.0.1:{port}/health/live")
        return parsedate_to_datetime(said.headers["Date"]).timestamp()

    async def furnish(self) -> None:
        command = self.service.command
        await command("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")
        await command("recipient", "add", "dsp-a", "--partner", "shop")
        for user in ("ann", "ben"):
            await command("user", "add", user, "--partner", "shop", "--password-stdin",
                          stdin=PASSWORD.encode())  # fmt: skip
        said = await command("token", "create")
        self.privacy_token = next(word for word in said.split() if word.startswith("rtbp_"))
        await self.service.load([ERIN], [(f"{n}", "add") for n in range(1, 10)], "shop")
        await self.service.load([ALICE, BOB, CAROL, DAVE], [("1", "add")], "shop")
        await self.service.until("enriched", bid_request(ALICE), "dsp-a")

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "", **options: Any
    ) -> Answer:
        url = path if path.startswith("http") else f"http://127.0.0.1:{self.api_port}{path}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            options["json"] = body
        async with self.session.request(method, url, headers=headers, **options) as answer:
            raw = await answer.read()
            is_json = "json" in answer.content_type
            return Answer(answer.status, answer.headers, json.loads(raw) if is_json else raw)

    async def login(self, user: str = "ann", password: str = PASSWORD) -> Answer:
        said = await self.ask("POST", "/login", {"username": user, "password": password})
        if said.status == 200:
            self.token = said.body["token"]
        return said

    async def presign(self, segment_id: str, token: str) -> Answer:
        form = {"filename": "add.sha2.txt", "action": "add", "type": "sha2"}
        return await self.ask("POST", f"/audience/upload/{segment_id}", form, token=token)

    async def upload_url(self, segment_id: str) -> str:
        said = await self.presign(segment_id, self.token)
        assert said.status == 200, said
        url: str = said.body["output"]["presignedURI"]
        return url

    async def upload(self, emails: list[str], segment_id: str) -> None:
        """Hand a file over, and have it acknowledged."""
        data = "".join(f"{sha256(email)}\n" for email in emails).encode()
        url = await self.upload_url(segment_id)
        assert (await self.ask("PUT", url, data=io.BytesIO(data))).status == 200

    async def opt_out(self, email: str) -> None:
        """Say no for a person, and have it acknowledged: it is in force from now on."""
        body = {"action": "RESTRICT", "emailHashes": [sha256(email)]}
        said = await self.ask("POST", "/data-subject-requests", body, token=self.privacy_token)
        assert said.status == 202, f"{said.body} {self.service.log.read_text()[-3000:]}"
        assert (await self.service.bid(bid_request(email), "dsp-a")).outcome == "opted_out"

    def drop_metadata(self, name: str, content: bytes) -> Path:
        """Describe a data file in the drop folder, and return its path: it is not there yet."""
        folder = self.service.folder / "data" / "drop" / "shop"
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.md5(content).hexdigest()
        file = {"name": f"{name}.txt", "hash": "md5", "digest": digest, "date": "2026-11-22"}
        metadata = {
            "partner_id": "shop",
            "file": {**file, "records": len(content.splitlines())},
            "segments": [{"id": "9", "name": "Nine", "action": "add"}],
        }
        (folder / f"{name}.json").write_text(json.dumps(metadata))
        return folder / f"{name}.txt"

    async def status_of(self, data_file: Path, member: str) -> Any:
        """Wait for a member of a delivery's `.status`."""
        path = data_file.with_suffix(".status")
        async with asyncio.timeout(_WITHIN_S):
            while True:
                said = json.loads(path.read_text()) if path.exists() else {}
                assert "error" not in said, said
                if member in said:
                    return said[member]
                await asyncio.sleep(0.05)

    async def until_at_work(self) -> None:
        """Wait until the loader carries a file."""
        url = f"http://127.0.0.1:{self.admin_ports['LOADER']}/metrics"
        async with asyncio.timeout(_WITHIN_S):
            while True:
                said = await self.ask("GET", url)
                if b"\nsegments_jobs_at_work 1.0" in said.body:
                    return
                await asyncio.sleep(0.01)

    async def until_well(self) -> None:
        """Wait until every process says that all is well with it."""
        await self.service.until_ready()
        async with asyncio.timeout(_WITHIN_S):
            for port in self.admin_ports.values():
                while True:
                    said = await self.ask("GET", f"http://127.0.0.1:{port}/health/ready?strict")
                    if said.status == 200:
                        break
                    await asyncio.sleep(0.05)

    async def shows(self, email: str, segment_id: str) -> None:
        """Wait until a person's bids are given a segment."""
        async with asyncio.timeout(_WITHIN_S):
            while True:
                said = await self.service.bid(bid_request(email), "dsp-a")
                if segment_id in said.segment_ids.get("shop", []):
                    return
                await asyncio.sleep(0.05)


def library() -> str:
    found = [str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    assert found, "faketime is not installed; `make test` installs it"
    return found[0]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    try:
        async with host.service.running():
            await host.furnish()
            yield host
    finally:
        await host.session.close()
        for pid in processes_of(host.service):
            os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def watched(host: Host, forbidden: list[str]) -> AsyncIterator[list[str]]:
    """Bid all the while for persons who said no; yields what was shown of one of them."""
    shown: list[str] = []

    async def bid() -> None:
        while True:
            for email in tuple(forbidden):
                said = await host.service.bid(bid_request(email), "dsp-a")
                if said.status != 200 or "shop" in said.segment_ids:
                    shown.append(f"{said.status} {said.outcome}")

    watching = asyncio.create_task(bid())
    try:
        yield shown
    finally:
        watching.cancel()
        await asyncio.wait([watching])


@pytest.mark.long  # half a minute
@pytest.mark.timeout(300)
async def test_clock_that_is_set_loses_nothing_and_shows_nothing_forbidden(host: Host) -> None:
    await host.opt_out(DAVE)
    forbidden = [DAVE]
    await host.login()
    old_token, old_url = host.token, await host.upload_url("2")
    awaited = host.drop_metadata("awaited", content := f"{sha256(ALICE)}\n".encode())
    await host.status_of(awaited, "transaction_id")

    async with watched(host, forbidden) as shown:
        # Forward, while a file is at work.
        await host.upload(MANY, "3")
        await host.until_at_work()
        await host.set_clock(HOUR_S)
        await host.opt_out(CAROL)
        forbidden.append(CAROL)
        await host.until_well()
        expired = [
            await host.presign("2", old_token),
            await host.ask("PUT", old_url, data=b"x"),
        ]
        again = await host.login()
        awaited.write_bytes(content)
        await host.upload([ALICE], "4")
        await host.shows(ALICE, "4")
        await host.shows(ALICE, "9")
        await host.shows(MANY[-1], "3")
        locked = await locked_out(host, "ben")
        seen_before = await host.service.metric('rtb_seen_ids_total{result="remembered"}')
        ahead_token, ahead_url = host.token, await host.upload_url("5")
        late = host.drop_metadata("late", content)
        await host.status_of(late, "transaction_id")

        # And back, while another is at work.
        await host.upload(MANY, "6")
        await host.until_at_work()
        await host.set_clock(0)
        await host.opt_out(BOB)
        forbidden.append(BOB)
        await host.until_well()
        early = [
            await host.presign("2", ahead_token),
            await host.ask("PUT", ahead_url, data=b"x"),
        ]
        still_locked = await host.login("ben")
        await host.login()
        late.write_bytes(content)
        await host.upload([ALICE], "7")
        await host.shows(ALICE, "7")
        await host.shows(MANY[-1], "6")
        seen = await host.service.metric('rtb_seen_ids_total{result="remembered"}')

    log = host.service.log.read_text()
    assert shown == []
    assert [said.status for said in expired] == [401, 403]
    assert again.status == 200
    assert {said.status for said in early} <= {200, 401, 403}
    assert locked.status == still_locked.status == 429
    assert int(still_locked.headers["Retry-After"]) <= 60
    assert seen > seen_before
    assert await host.status_of(late, "transaction_id")
    assert "Traceback" not in log
    assert "ERROR" not in log


async def locked_out(host: Host, user: str) -> Answer:
    """Try wrong passwords until that is too many."""
    async with asyncio.timeout(_WITHIN_S):
        while True:
            said = await host.login(user, "wrong")
            if said.status != 401:
                return said
