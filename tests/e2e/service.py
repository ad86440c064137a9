"""
The service as its users meet it: processes, sockets, signals and a command line.

Nothing is imported from the product; what these tests know of it stands in the
README and docs/.
"""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from loadtest.ports import free_ports
from tests.commands import run_command

_PATIENCE_S = 60


@dataclass(frozen=True)
class Answer:
    """What came back for one bid request."""

    status: int
    outcome: str
    body: bytes

    @property
    def segment_ids(self) -> dict[str, list[str]]:
        """Segment ids by the id of the `Data` object that holds them."""
        data = json.loads(self.body).get("user", {}).get("data", [])
        return {d["id"]: [s["id"] for s in d["segment"]] for d in data if "segment" in d}


class Service:
    """`rtb-segments up` in a folder of its own, on ports of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port, self.admin_port = free_ports(2)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SEGMENTS_", "RTB_"))},
            "RTB_PORT": str(self.port),
            "RTB_ADMIN_PORT": str(self.admin_port),
            "RTB_STOP_ACCEPTING_AFTER_S": "0",
            "RTB_HOST": "127.0.0.1",
            "RTB_DEADLINE_CAP_MS": "2000",  # a loaded test machine is not late, only slow
            "RTB_TMAX_SHARE": "1",
            "SEGMENTS_DATA_DIR": str(folder / "data"),
            "SEGMENTS_EXPECTED_IDS": "10000",
            "SEGMENTS_SFTP_HOST": "127.0.0.1",
            "SEGMENTS_SFTP_PORT": "0",
            "SEGMENTS_API_HOST": "127.0.0.1",
            "SEGMENTS_API_PORT": "0",
            "SEGMENTS_UP_CONSOLE": "no",
            **environment,
        }
        self.log = folder / "up.log"
        self._process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def running(self, *, enriches: bool = True) -> AsyncIterator["Service"]:
        """Start, wait until ready, and stop with SIGTERM; fails if that is not clean."""
        await self.start()
        try:
            await self.until_ready(enriches=enriches)
            yield self
        finally:
            status = await self.stop(signal.SIGTERM)
        assert status == 0, self.log.read_text()

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "segments", "up",
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
                cwd=self.folder,
            )  # fmt: skip

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def stop(self, number: signal.Signals) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), _PATIENCE_S)

    async def until_ready(self, *, enriches: bool = True) -> None:
        """Wait until it says that it answers, and, where asked for, that it enriches."""
        url = f"{self.admin}/health/ready" + ("?strict" if enriches else "")
        async with asyncio.timeout(_PATIENCE_S), aiohttp.ClientSession() as session:
            while True:
                assert self.process.returncode is None, self.log.read_text()
                try:
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.02)

    async def reason(self) -> str:
        """Return why the bid listener says that it does not enrich."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.admin}/health/ready") as answer,
        ):
            return str((await answer.json())["reason"])

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    async def metric(self, line: str) -> float:
        """Return the value of one line of the bid listener's metrics."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as said:
            lines = (await said.text()).splitlines()
        return next(float(one.removeprefix(line)) for one in lines if one.startswith(line + " "))

    async def command(self, *arguments: str, status: int = 0, stdin: bytes = b"") -> str:
        """Run one `rtb-segments` command to its end and return what it printed."""
        done = await asyncio.to_thread(
            run_command,
            *arguments,
            env=self.environment,
            cwd=self.folder,
            stdin=stdin,
            within_s=_PATIENCE_S,
        )
        said = done.stdout + done.stderr
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{said}"
        return said

    async def bid(self, body: bytes | dict[str, Any], recipient: str | None = None) -> Answer:
        """Put one bid request to the listener."""
        path = "/openrtb2/enrich" + (f"/{recipient}" if recipient else "")
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self.port}{path}", data=raw) as answer,
        ):
            outcome = answer.headers.get("X-Enrich-Outcome", "")
            return Answer(answer.status, outcome, await answer.read())

    async def until(
        self, outcome: str, body: dict[str, Any], recipient: str | None = None
    ) -> Answer:
        """Bid until the outcome is the one; what a change may take a second for."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                answer = await self.bid(body, recipient)
                if answer.outcome == outcome:
                    return answer
                await asyncio.sleep(0.02)

    async def load(
        self,
        emails: Sequence[str],
        segments: Sequence[tuple[str, str]],
        partner: str,
        status: int = 0,
    ) -> str:
        """Deliver a file: `segments` are (segment id, add or remove)."""
        data = self.folder / f"{partner}.txt"
        data.write_text("".join(f"{sha256(email)}\n" for email in emails))
        metadata = {
            "partner_id": partner,
            "file": {
                "name": data.name,
                "hash": "md5",
                "digest": hashlib.md5(data.read_bytes()).hexdigest(),
                "date": "2026-11-22",
                "records": len(emails),
            },
            "segments": [{"id": i, "name": f"Segment {i}", "action": a} for i, a in segments],
        }
        described = self.folder / f"{partner}.txt.json"
        described.write_text(json.dumps(metadata))
        return await self.command("load", str(data), "--metadata", str(described), status=status)


def sha256(email: str) -> str:
    return hashlib.sha256(email.encode()).hexdigest()


def bid_request(email: str) -> dict[str, Any]:
    eid = {"source": "liveintent.com", "uids": [{"id": sha256(email), "atype": 3}]}
    return {
        "id": "1",
        "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}],
        "site": {"publisher": {"id": "pub-1"}},
        "user": {"eids": [eid], "data": [{"id": "other", "segment": [{"id": "9"}]}]},
        "tmax": 2000,
    }


def processes_of(service: Service) -> list[int]:
    """Return the pids of all processes that work in this service's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink().is_relative_to(service.folder):
                    found.append(int(entry.name))
            except OSError:  # ended meanwhile, or another user's
                continue
    return found
