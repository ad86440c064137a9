"""
digitalAudience's client, written from its document alone: the curl examples, filled in.

    log in, create, load a file, look at its insights, activate, bid, update, end, delete
"""

import asyncio
import hashlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtest.ports import free_ports
from tests.e2e.service import Answer, Service, bid_request, processes_of, sha256
from tests.kept_files import kept_files

USER, PASSWORD = "jane@shop.example", "correct horse battery"
DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"
ALICE = bid_request("alice@example.com")
PHONE_OF_ALICE = {**ALICE, "user": {}, "device": {"ifa": DEVICE}}


@dataclass
class Client:
    """Nothing but `curl`, and the cookie of its login."""

    service: Service
    base_url: str
    cookie: str = ""

    async def curl(self, *arguments: str) -> tuple[int, str]:
        """Return the status, and head and body."""
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-i", "-w", "\n%{http_code}", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        said, _, status = out.decode().rpartition("\n")
        return int(status), said

    async def ask(self, path: str, body: Any = None, *, method: str = "") -> tuple[int, Any]:
        arguments = ["--location", f"{self.base_url}{path}"]
        arguments += ["--header", "Content-Type: application/json"]
        arguments += ["--header", f"Cookie: {self.cookie}"]
        if method:
            arguments += ["--request", method]
        if body is not None:
            arguments += ["--data", json.dumps(body)]
        status, said = await self.curl(*arguments)
        return status, json.loads(said.rpartition("\r\n\r\n")[2])

    async def data(self, path: str, body: Any = None, *, method: str = "") -> Any:
        status, answer = await self.ask(path, body, method=method)
        assert status == 200, answer
        assert answer["success"] is True
        return answer["data"]

    async def login(self) -> None:
        status, said = await self.curl(
            "--location", f"{self.base_url}/account/login",
            "--header", "Content-Type: application/json",
            "--data-raw", json.dumps({"userName": USER, "password": PASSWORD}),
        )  # fmt: skip
        assert status == 200, said
        (self.cookie,) = [
            line.partition(": ")[2].partition(";")[0]
            for line in said.splitlines()
            if line.lower().startswith("set-cookie:")
        ]

    async def activate(
        self, audience_id: int, account_id: int, start_s: float, end_s: float
    ) -> Any:
        return await self.data(
            "/audience/activate",
            {
                "audienceId": audience_id,
                "accountId": account_id,
                "name": "Customers",
                "description": "Of the shop",
                "startDate": _iso(start_s),
                "endDate": _iso(end_s),
            },
        )

    async def until_ready(self, audience_id: int) -> Any:
        async with asyncio.timeout(60):
            while True:
                loaded = await self.data(f"/audience/loadaudiencebyid/{audience_id}", method="GET")
                if loaded["audienceState"] == "READY":
                    return loaded
                assert loaded["audienceState"] in ("NODATA", "PROCESSING")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    (port,) = free_ports(1)
    service = Service(tmp_path, SEGMENTS_API_PORT=str(port), RTB_ALLOW_UNNAMED_RECIPIENT="true")
    async with service.running():
        await service.command("account", "add", "--kind", "advertiser", "--id", "shop",
                              "--name", "Shop")  # fmt: skip
        for recipient in ("dsp-a", "dsp-b"):
            await service.command("recipient", "add", recipient, "--partner", "shop")
        await service.command("user", "add", USER, "--partner", "shop", "--password-stdin",
                              stdin=PASSWORD.encode())  # fmt: skip
        client = Client(service, f"http://127.0.0.1:{port}")
        await client.login()
        yield client
    for pid in processes_of(service):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(300)  # some ten commands, each a process of its own
async def test_life_of_a_crm_audience(client: Client) -> None:
    service = client.service

    # Created within a campaign.
    campaign = await client.data("/campaign/createcampaign", {"name": "api_camp"})
    created = await client.data(
        "/audience/create/api/audience/createcrmaudience",
        {"name": "Customers", "description": "All of them", "campaignId": campaign["id"]},
    )
    assert (created["audienceState"], created["activationStatus"]) == ("NODATA", "New")
    audience_id = created["id"]

    # Its data, by a delivery door.
    await service.command("load", *_files(service.folder, audience_id))
    loaded = await client.until_ready(audience_id)
    ((_, upload),) = loaded["crmData"]["history"]["history"].items()
    assert upload["totalRows"] == loaded["crmData"]["size"] == 2
    assert upload["dataSet"]["EMAIL"] == {
        "TOTAL": 2, "UNIQUE": 2, "MATCH": 0, "UMATCH": 0, "NOMATCH": 2,
    }  # fmt: skip
    assert await _outcomes(client) == ["no_match"] * 3

    # Shown to one account, from one second until another.
    accounts = await client.data("/organisation/loadplatformaccounts", method="GET")
    dsp_a = next(account["id"] for account in accounts if account["name"] == "dsp-a")
    start_s = int(time.time()) + 3
    end_s = start_s + 4
    activated = await client.activate(audience_id, dsp_a, start_s, end_s)
    seen = await _watch(client, until_s=end_s + 2)
    assert {answer.segment_ids["shop"][0] for _, answer in seen} == {str(activated["segmentId"])}
    # The moment of the question, and of the answer: the service's lies between.
    assert start_s <= seen[0][0][1]
    assert seen[-1][0][0] <= end_s + 1
    assert start_s < seen[len(seen) // 2][0][0] < end_s
    ended = await client.data(f"/audience/loadAudienceById/{audience_id}", method="GET")
    assert ended["activationStatus"] == "Ended"

    # Shown again: another window, the same segment.
    again = await client.activate(audience_id, dsp_a, start_s, end_s + 3600)
    assert again["segmentId"] == activated["segmentId"]
    await service.until("enriched", ALICE, "dsp-a")
    assert (await service.bid(PHONE_OF_ALICE, "dsp-a")).outcome == "enriched"
    assert (await service.bid(ALICE, "dsp-b")).outcome == "no_match"
    assert (await service.bid(ALICE)).outcome == "no_match"

    # Updated, which no bid shows.
    updated = await client.data(
        "/audience/update", {"id": audience_id, "name": "Good customers", "description": "Some"}
    )
    assert (updated["name"], updated["activationStatus"]) == ("Good customers", "Active")
    assert (await service.bid(ALICE, "dsp-a")).outcome == "enriched"

    # Ended before its time, and shown once more.
    await client.activate(audience_id, dsp_a, start_s, end_s)
    await service.until("no_match", ALICE, "dsp-a")
    await client.activate(audience_id, dsp_a, start_s, end_s + 3600)
    await service.until("enriched", ALICE, "dsp-a")

    # Deleted, and not to be had back.
    status, answer = await client.ask(f"/audience/delete?audienceId={audience_id}", method="DELETE")
    assert (status, answer["data"], answer["success"]) == (200, True, True)
    await service.until("no_match", ALICE, "dsp-a")
    assert (await client.ask(f"/audience/loadAudienceById/{audience_id}"))[0] == 404
    assert not kept_files(service.folder / "data" / "blobs")
    await service.command("rebuild", "--yes")
    assert (await service.until("no_match", ALICE, "dsp-a")).status == 200

    # Logged out.
    await client.data("/account/logout", {}, method="POST")
    assert (await client.ask("/organisation/loadplatformaccounts"))[0] == 401


async def _outcomes(client: Client) -> list[str]:
    return [
        (await client.service.bid(ALICE, recipient)).outcome
        for recipient in ("dsp-a", "dsp-b", None)
    ]


async def _watch(client: Client, *, until_s: float) -> list[tuple[tuple[float, float], Answer]]:
    """Bid for dsp-a all the time; return when each bid with a segment was, and its answer."""
    seen = []
    while (asked_s := time.time()) < until_s:
        answer = await client.service.bid(ALICE, "dsp-a")
        if answer.outcome == "enriched":
            seen.append(((asked_s, time.time()), answer))
    return seen


def _files(folder: Path, audience_id: int) -> tuple[str, ...]:
    """Write a file of typed columns, and LiveAudience's description of it."""
    rows = [
        "EMAIL,PHONE,POSTALADDRESS,SECURITYNUMBER,AAID",
        f"{sha256('alice@example.com')},{sha256('31612345678')},{sha256('x')},,{DEVICE}",
        f"{sha256('bob@example.com')},,,{sha256('y')},",
    ]
    data = folder / "customers.csv"
    data.write_bytes("".join(f"{row}\r\n" for row in rows).encode())
    described = folder / "customers.csv.json"
    described.write_text(
        json.dumps(
            {
                "partner_id": "shop",
                "file": {
                    "name": data.name,
                    "hash": "md5",
                    "digest": hashlib.md5(data.read_bytes()).hexdigest(),
                    "date": "2026-11-24",
                    "records": 2,
                },
                "segments": [{"id": str(audience_id), "name": "Customers", "action": "add"}],
            }
        )
    )
    return str(data), "--metadata", str(described)


def _iso(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
