"""The SFTP door as partners meet it: a process, a port, and OpenSSH's own `sftp`."""

import asyncio
import os
import signal
import subprocess
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from segments.doors.sftp.public_key import read_public_keys
from segments.ledger import accounts, recipients
from segments.ledger.database.engine import open_ledger
from segments.ledger.live_audience import ssh_keys
from segments.model.account import AccountKind
from segments.runtime import child_process
from segments.settings import Settings
from tests.commands import Started, start_command

WITHIN_S = 40


class Ran(NamedTuple):
    """What one run of a client came to."""

    status: int
    said: str


class Door:
    """`rtb-segments sftp` in a folder of its own, on a port of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.log = folder / "sftp.log"
        self.settings = Settings(data_dir=folder / "data")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SEGMENTS_", "RTB_"))},
            "SEGMENTS_DATA_DIR": str(folder / "data"),
            "SEGMENTS_SFTP_HOST": "127.0.0.1",
            "SEGMENTS_SFTP_PORT": "0",
            "SEGMENTS_EXPECTED_IDS": "10000",
            **environment,
        }
        self.port = 0
        self._process: Started | None = None

    async def add_partner(self, partner_id: str) -> None:
        """Add a partner, and its key, which the clients take by its name."""
        public_key = new_key(self.folder / partner_id)
        async with open_ledger(self.settings.ledger_dsn) as ledger, ledger.begin() as conn:
            partner = await accounts.add_account(
                conn, AccountKind.ADVERTISER, partner_id, partner_id, now_s=time.time()
            )
            for key in read_public_keys(public_key, partner.id):
                await ssh_keys.add_key(conn, key, now_s=0)

    async def add_recipient(self, name: str, partner_id: str) -> None:
        """Add a recipient that sees a partner's segments."""
        async with open_ledger(self.settings.ledger_dsn) as ledger, ledger.begin() as conn:
            recipient = await recipients.add_recipient(conn, name, now_s=time.time())
            await recipients.grant(conn, recipient, await accounts.partner(conn, partner_id))

    async def start(self) -> None:
        """Start the server and wait until it listens."""
        self._process = await self.command("sftp")
        begins_at = self.log.stat().st_size
        await until(lambda: "SFTP on port" in self._log_from(begins_at))
        said = self._log_from(begins_at)
        self.port = int(said.partition("SFTP on port ")[2].split()[0])

    async def command(self, *arguments: str) -> Started:
        """Start one of our commands, which logs where the server does."""
        with self.log.open("ab") as log:
            return await start_command(
                *arguments, env=self.environment, cwd=self.folder, output=log
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the server with a signal and return its exit status."""
        assert self._process is not None
        return await stop(self._process, number)

    def peak_memory_kb(self) -> int:
        """Return the most memory that the server has had."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Door"]:
        """Run the server; that it ends well is part of every test."""
        await self.start()
        try:
            yield self
        finally:
            status = await self.stop()
        assert status == 0, self.log.read_text()
        assert "Traceback" not in self.log.read_text()

    async def sftp(self, partner_id: str, *lines: str, key: str | None = None) -> Ran:
        """Run OpenSSH's `sftp` with these lines as its batch; it stops at the first that fails."""
        client = await self.begin_sftp(partner_id, *lines, key=key)
        return await ended(client)

    async def begin_sftp(
        self, partner_id: str, *lines: str, key: str | None = None, options: Sequence[str] = ()
    ) -> Process:
        """Start OpenSSH's `sftp`."""
        client = await asyncio.create_subprocess_exec(
            "sftp", "-b", "-", *options, *self._options("-P", key or partner_id),
            f"{partner_id}@127.0.0.1",
            cwd=self.folder, stdin=PIPE, stdout=PIPE, stderr=STDOUT, start_new_session=True,
        )  # fmt: skip
        assert client.stdin is not None
        client.stdin.write("".join(f"{line}\n" for line in lines).encode())
        await client.stdin.drain()
        client.stdin.close()
        return client

    async def ssh(self, partner_id: str, *arguments: str, program: str = "ssh") -> Ran:
        """Run OpenSSH's `ssh`, to ask for what there is not."""
        client = await asyncio.create_subprocess_exec(
            program, *self._options("-p", partner_id), *arguments,
            cwd=self.folder, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip
        return await ended(client)

    def partner_folder(self, partner_id: str) -> Path:
        """Return where a partner's files lie."""
        return self.settings.drop_folder / partner_id

    def _options(self, port_option: str, key: str) -> list[str]:
        return [
            port_option, str(self.port), "-i", str(self.folder / key), "-F", "none",
            "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR",
            "-o", "StrictHostKeyChecking=accept-new", "-o", "HostKeyAlias=door",
            "-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}",
        ]  # fmt: skip

    def _log_from(self, begins_at: int) -> str:
        return self.log.read_bytes()[begins_at:].decode()


async def stop(process: child_process.Process, number: signal.Signals = signal.SIGTERM) -> int:
    """End a process and return its exit status."""
    if process.returncode is None:
        process.send_signal(number)
    return await asyncio.wait_for(process.wait(), WITHIN_S)


async def ended(client: Process) -> Ran:
    """Wait for a client's end."""
    said, _ = await asyncio.wait_for(client.communicate(), WITHIN_S)
    assert client.returncode is not None
    return Ran(client.returncode, said.decode(errors="replace"))


def new_key(path: Path, *options: str) -> bytes:
    """Make a pair of keys with `ssh-keygen`; return the public one."""
    subprocess.run(
        ["ssh-keygen", "-q", "-N", "", "-f", path, *(options or ("-t", "ed25519"))], check=True
    )
    return path.with_name(f"{path.name}.pub").read_bytes()


async def until(claim: Callable[[], bool]) -> None:
    """Wait until a claim about another process holds."""
    async with asyncio.timeout(WITHIN_S):
        while not claim():  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.02)
