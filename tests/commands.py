"""
`rtb-segments` commands, without the two seconds of imports before each.

A process that has imported all commands waits on a socket and forks for each, with the
arguments, the environment, the directory and the files that it is given: a process of its own,
with a pid and an exit status of its own, that ends with the process of the tests.

`script_for_shells` makes the same of a shell's `rtb-segments`.
"""

import array
import asyncio
import json
import os
import selectors
import shlex
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import IO, NoReturn

_READY_WITHIN_S = 60
_PID_BYTES = 4
_MOST_FILES = 1024
_SERVING = ("up", "serve", "loader", "sftp", "api", "console")


def run_command(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path,
    stdin: bytes = b"",
    within_s: float = 60,
) -> "CompletedProcess[str]":
    """Run `rtb-segments ARGUMENTS` to its end."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        socket.socket(socket.AF_UNIX) as line,
    ):
        given.write(stdin)
        given.seek(0)
        line.settimeout(within_s)
        line.connect(str(_warm()[0]))
        files = (given.fileno(), out.fileno(), err.fileno())
        status = _call(line, arguments, env, cwd, files)
        out.seek(0)
        err.seek(0)
        return CompletedProcess(arguments, status, out.read().decode(), err.read().decode())


async def start_command(
    *arguments: str, env: Mapping[str, str], cwd: Path, output: IO[bytes]
) -> "Started":
    """Start `rtb-segments ARGUMENTS`; what it writes goes to a file."""
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(_READY_WITHIN_S)
    line.connect(str(_warm()[0]))
    with tempfile.TemporaryFile() as nothing:
        files = (nothing.fileno(), output.fileno(), output.fileno())
        pid = _begin(line, arguments, env, cwd, files)
    return Started(pid, line)


class Started:
    """A command that runs; `segments.runtime.child_process.Process`."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        line.setblocking(False)
        self._ended = asyncio.create_task(self._end(line))

    async def _end(self, line: socket.socket) -> int:
        with line:
            said = await asyncio.get_running_loop().sock_recv(line, 16)
        self.returncode = int(said or b"-9")
        return self.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def send_signal(self, signal: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def script_for_shells(path: Path) -> None:
    """
    Write an `rtb-segments` for a shell, which has its commands done by the warm process.

    Commands that serve are what they always are, for a shell sends them signals.
    """
    ours = [sys.executable, "-IS", __file__, "call", str(_warm()[0])]
    really = [sys.executable, "-m", "segments"]
    path.write_text(
        "#!/bin/sh\n"
        f'case "$1" in {"|".join(_SERVING)}) exec {shlex.join(really)} "$@";; esac\n'
        f'exec {shlex.join(ours)} "$@"\n'
    )
    path.chmod(0o755)


def _call(
    line: socket.socket,
    arguments: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    files: Sequence[int],
) -> int:
    _begin(line, arguments, env, cwd, files)
    return int(line.recv(16) or b"-9")


def _begin(
    line: socket.socket,
    arguments: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    files: Sequence[int],
) -> int:
    asked = json.dumps([arguments, dict(env), str(cwd)]).encode()
    line.sendmsg(
        [len(asked).to_bytes(4, "big")],
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))],
    )
    line.sendall(asked)
    return int.from_bytes(line.recv(_PID_BYTES), "big")


def _call_for_shell(path: str, *arguments: str) -> int:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        return _call(line, arguments, os.environ, Path.cwd(), (0, 1, 2))


@cache
def _warm() -> "tuple[Path, Popen[bytes]]":
    """Start the process that forks, once for each process of tests; it ends with that."""
    from tests.engines import start_server

    path = Path(tempfile.mkdtemp(prefix="warm-")) / "s"
    process = start_server([sys.executable, "-m", "tests.commands", str(path)])
    give_up_at_s = time.monotonic() + _READY_WITHIN_S
    while not path.exists():
        assert time.monotonic() < give_up_at_s, "the commands do not get warm"
        time.sleep(0.02)
    return path, process


def _serve(path: str) -> NoReturn:
    from segments.cli import main

    for name in main.list_commands(None):  # type: ignore[arg-type]
        main.get_command(None, name)  # type: ignore[arg-type]
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{path}.new")
    listening.listen(64)
    Path(f"{path}.new").rename(path)  # now it takes calls
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listening:
                line, _ = listening.accept()
                pid = _forked(line)
                line.sendall(pid.to_bytes(_PID_BYTES, "big"))
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, line))
            else:
                selector.unregister(key.fd)
                os.close(key.fd)
                pid, line = key.data
                _, status = os.waitpid(pid, 0)
                line.sendall(b"%d" % os.waitstatus_to_exitcode(status))
                line.close()


def _forked(line: socket.socket) -> int:
    from segments.runtime import child_process

    head, files, _, _ = socket.recv_fds(line, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += line.recv(1 << 16)
    warm = os.getpid()
    if pid := os.fork():
        for file in files:
            os.close(file)
        return pid
    status = 70
    try:
        child_process.end_with(warm)
        arguments, env, cwd = json.loads(asked)
        status = _run(arguments, env, cwd, files)
    except BaseException:  # noqa: BLE001 - as the interpreter does of an exception that nobody takes
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(arguments: list[str], env: dict[str, str], cwd: str, files: list[int]) -> int:
    from segments.cli import main

    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(len(files), _MOST_FILES)  # as those of an executed program
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    try:
        main(arguments, prog_name="rtb-segments")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return ended.code or 0
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "call":
        sys.exit(_call_for_shell(*sys.argv[2:]))
    _serve(sys.argv[1])
