"""
A real PostgreSQL for the tests that need one; there is no fake of it.

Debian's own server, which refuses to run as root, so root starts it as the user
`postgres` whom the package makes. Its data lies in a folder of its own, it
listens on a unix socket there and on a port, and it can be stopped, killed and
started again under a test's hands. Nothing is synced to disk: no test cuts the
power.

Each test gets a database of its own, which costs some ten milliseconds.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from tests.engines import free_port, start_lasting

T = TypeVar("T")

USER = "ledger"
PASSWORD = "hunter2"
"""Of `USER`, who must give it over TCP."""

_READY_WITHIN_S = 60
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",
    "max_connections": "200",
    "shared_buffers": "16MB",
    "logging_collector": "off",
}
_ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


class Postgres:
    """One running server; `new_database` gives the URL of a fresh ledger in it."""

    def __init__(self, folder: Path | None = None) -> None:
        # Not in a test's own folder: a unix socket's path has 107 bytes at most.
        self.dir = folder or Path(tempfile.mkdtemp(prefix="pg-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        if os.geteuid() == 0:
            shutil.chown(self.dir, "postgres", "postgres")
        self.dir.chmod(0o755)
        init = ["initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8"]
        init += ["--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        made = subprocess.run(_as_postgres(init), capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        (self._data / "pg_hba.conf").write_text(_ACCESS)

    @property
    def _data(self) -> Path:
        return self.dir / "data"

    def url(self, database: str) -> str:
        """Return the URL of a database by way of the socket."""
        return f"postgresql://{USER}@/{database}?host={self.dir}&port={self.port}"

    def tcp_url(self, database: str, password: str = PASSWORD) -> str:
        """Return the URL of a database by way of the port, where a password is asked for."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, options: str = "") -> str:
        """Make an empty database and return its name."""
        name = f"test_{next(self._numbers)}"
        self.execute("postgres", f"create database {name} {options}")
        return name

    def drop(self, database: str) -> None:
        """Delete a database, whoever is still connected to it."""
        self.execute("postgres", f"drop database if exists {database} with (force)")

    def execute(self, database: str, statement: str) -> None:
        """Run statements in a database, from outside of the product."""

        async def run(conn: asyncpg.Connection) -> None:
            await conn.execute(statement)

        self._with_connection(database, run)

    def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds in a database, from outside of the product."""

        async def run(conn: asyncpg.Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in await conn.fetch(query)]

        return self._with_connection(database, run)

    def _with_connection(
        self, database: str, work: Callable[[asyncpg.Connection], Awaitable[T]]
    ) -> T:
        async def run() -> T:
            conn = await asyncpg.connect(self.url(database))
            try:
                return await work(conn)
            finally:
                await conn.close()

        return _elsewhere(run)

    def start(self) -> None:
        """Start the server with the data it had, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        argv = ["postgres", "-D", str(self._data), "-k", str(self.dir), "-p", self.port]
        for name, value in _SETTINGS.items():
            argv += ["-c", f"{name}={value}"]
        with (self.dir / "log").open("ab") as log:
            self._process = start_lasting(_as_postgres(argv), stdout=log, stderr=log)
        _elsewhere(self._ready)

    def stop(self) -> None:
        """End the server as an operator does who does not wait for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server at once, without a last word to anybody."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """End the server and delete its data."""
        self.kill()
        shutil.rmtree(self._data)
        if not self.dir.is_mount():
            shutil.rmtree(self.dir)

    def _end(self, signal_number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal_number)
        self._process.wait(_READY_WITHIN_S)
        self._process = None

    async def _ready(self) -> None:
        assert self._process is not None
        async with asyncio.timeout(_READY_WITHIN_S):
            while True:
                assert self._process.poll() is None, (self.dir / "log").read_text()
                try:
                    conn = await asyncpg.connect(self.url("postgres"))
                except (OSError, asyncpg.PostgresError):  # not listening yet, or recovering
                    await asyncio.sleep(0.02)
                    continue
                await conn.execute(f"alter role {USER} password '{PASSWORD}'")
                await conn.close()
                return


def _elsewhere(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine from a function, whether or not a loop is running above it."""

    async def run() -> T:
        return await work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()


def _as_postgres(argv: Sequence[str]) -> list[str]:
    """Return a command of PostgreSQL's, as a user who may run it, ending when we end."""
    program = _program(argv[0])
    # The kernel forgets the promise when the user changes, so it is asked for after that.
    command = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() == 0:
        command += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return [*command, "--", program, *argv[1:]]


def _program(name: str) -> str:
    """Return the path of a program of PostgreSQL's. A missing one fails the test."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=_version)
    found = shutil.which(name) or (str(installed[-1]) if installed else None)
    assert found, "postgresql is not installed; `make test` installs it"
    return found


def _version(program: Path) -> float:
    return float(program.parts[-3])
