"""
The whole service on one host, met by clients that others wrote.

One partner delivers, `shop`: it has a user, an SSH key, an org of external audiences
with a directory of its own, and a recipient that sees it, `dsp-a`.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loadtest.ports import free_ports
from segments.doors.rest.passwords import Passwords
from segments.doors.sftp.public_key import read_public_keys
from segments.ledger import accounts, recipients, users
from segments.ledger.database.engine import open_ledger
from segments.ledger.external_audience import base_connections, orgs
from segments.ledger.live_audience import ssh_keys
from segments.model.account import AccountKind
from segments.settings import Settings
from tests.e2e.service import bid_request
from tests.segments.ingest.deliveries import email_hashes, text_of
from tests.sftp import new_key
from tests.tls import TestCa

USER, PASSWORD = "bob@shop.example", "correct horse battery"
ORG_ID = "0123456789ABCDEF@AdobeOrg"
CONTENT = text_of(email_hashes(50))
BID = json.dumps(bid_request("person0@example.com"))
"""A request for somebody in CONTENT."""

_WITHIN_S = 60


class Service:
    """`rtb-segments up` in a folder of its own, on ports of its own."""

    def __init__(self, folder: Path, ca: TestCa | None = None, **environment: str) -> None:
        self.folder = folder
        self.ca = ca
        self.bid_port, self.admin_port, self.api_port, self.sftp_port = free_ports(4)
        self.customer = folder / "customer"
        self.org: orgs.NewCredential
        self.connection_id = ""
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SEGMENTS_", "RTB_"))},
            "RTB_HOST": "127.0.0.1",
            "RTB_PORT": str(self.bid_port),
            "RTB_ADMIN_PORT": str(self.admin_port),
            "RTB_DEADLINE_CAP_MS": "2000",  # a loaded test machine is not late, only slow
            "RTB_TMAX_SHARE": "1",
            "RTB_DRAIN_S": "1",
            "RTB_STOP_ACCEPTING_AFTER_S": "0",
            "SEGMENTS_DATA_DIR": str(folder / "data"),
            "SEGMENTS_EXPECTED_IDS": "10000",
            "SEGMENTS_API_HOST": "127.0.0.1",
            "SEGMENTS_API_PORT": str(self.api_port),
            "SEGMENTS_UP_CONSOLE": "no",
            "SEGMENTS_SFTP_HOST": "127.0.0.1",
            "SEGMENTS_SFTP_PORT": str(self.sftp_port),
            **environment,
        }
        if ca is not None:
            self.environment |= {
                "SEGMENTS_API_TLS_CERT": str(ca.cert),
                "SEGMENTS_API_TLS_KEY": str(ca.key),
            }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def api(self) -> str:
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.api_port}"

    @property
    def bids(self) -> str:
        return f"http://127.0.0.1:{self.bid_port}/openrtb2/enrich/dsp-a"

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    def start(self) -> None:
        """Write the ledger, start, and wait until every door is open."""
        (self.customer / "in").mkdir(parents=True)
        asyncio.run(self._fill_ledger())
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "segments", "up"],
                env=self.environment, cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        self.until(self._is_ready)

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(_WITHIN_S)

    def ran(self, *command: str, text: str = "", **environment: str) -> tuple[int, str]:
        """Run a client in the service's folder; return its exit status and all that it said."""
        done = subprocess.run(
            command, cwd=self.folder, input=text, text=True, check=False, timeout=_WITHIN_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "TERM": "dumb", **environment},
        )  # fmt: skip
        return done.returncode, done.stdout

    def ask(self, path: str, body: Any = None, bearer: str = "") -> Any:
        """Ask a REST door; return what it answered."""
        headers = {"Authorization": f"bearer {bearer}"} if bearer else {}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            f"{self.api}{path}", data, {**headers, "Content-Type": "application/json"}
        )
        tls = self.ca.client() if self.ca else None
        with urllib.request.urlopen(asked, timeout=_WITHIN_S, context=tls) as answer:
            return json.loads(answer.read())

    def bid(self) -> str:
        """Return how a request for somebody in CONTENT ended."""
        with urllib.request.urlopen(self.bids, BID.encode(), _WITHIN_S) as answer:
            outcome: str = answer.headers["X-Enrich-Outcome"]
            return outcome

    def until(self, claim: Callable[[], bool]) -> None:
        """Wait until a claim about the service holds."""
        assert self._process is not None
        deadline_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline_s:
            assert self._process.poll() is None, self.log
            if claim():
                return
            time.sleep(0.02)
        raise AssertionError(f"not in time: {self.log}")

    def _is_ready(self) -> bool:
        try:
            for port in (self.sftp_port, self.api_port):
                socket.create_connection(("127.0.0.1", port)).close()
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/health/ready?strict"):
                return True
        except OSError:
            return False

    async def _fill_ledger(self) -> None:
        now_s = time.time()
        password_hash = await Passwords().hash(PASSWORD)
        public_key = new_key(self.folder / "shop")
        settings = Settings(data_dir=self.folder / "data")
        async with open_ledger(settings.ledger_dsn) as ledger, ledger.begin() as conn:
            shop = await accounts.add_account(
                conn, AccountKind.ADVERTISER, "shop", "Shop", now_s=now_s
            )
            await users.add_user(conn, USER, shop, password_hash, now_s=now_s)
            for key in read_public_keys(public_key, shop.id):
                await ssh_keys.add_key(conn, key, now_s=now_s)
            dsp = await recipients.add_recipient(conn, "dsp-a", now_s=now_s)
            await recipients.grant(conn, dsp, shop)
            sandbox = await orgs.find_or_add_sandbox(conn, ORG_ID, "prod", shop, now_s=now_s)
            self.org = await orgs.add_credential(conn, sandbox, "operator", now_s=now_s)
            added = await base_connections.add_connection(
                conn, sandbox, "files", self.customer.as_uri(), {}, now_s=now_s
            )
            self.connection_id = added.public_id


def program(name: str) -> str:
    """Return the path of a client's program."""
    return str(Path(__file__).parent / "programs" / name)


def arguments(service: Service, file: Path) -> Mapping[str, str]:
    """Return what a program is told by its environment."""
    return {
        "API": service.api, "BIDS": service.bids, "NAME": USER, "PASSWORD": PASSWORD,
        "FILE": str(file), "BID": BID,
    }  # fmt: skip
