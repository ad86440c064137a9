"""
`rtb-segments` commands that run to their end, without the two seconds of imports before each.

A process that has imported all commands waits on a socket and forks for each, with the
arguments, the environment, the directory and the files that it is given: a process of its own,
with an exit status of its own. What is killed, signalled or serves, a test starts itself.
"""

import array
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import NoReturn

_READY_WITHIN_S = 60


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
        files = array.array("i", [given.fileno(), out.fileno(), err.fileno()])
        asked = json.dumps([arguments, dict(env), str(cwd)]).encode()
        line.sendmsg(
            [len(asked).to_bytes(4, "big")],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)],
        )
        line.sendall(asked)
        status = int(line.recv(16) or b"-9")
        out.seek(0)
        err.seek(0)
        return CompletedProcess(arguments, status, out.read().decode(), err.read().decode())


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
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, line))
            else:
                selector.unregister(key.fd)
                os.close(key.fd)
                pid, line = key.data
                _, status = os.waitpid(pid, 0)
                line.sendall(b"%d" % os.waitstatus_to_exitcode(status))
                line.close()


def _forked(line: socket.socket) -> int:
    head, files, _, _ = socket.recv_fds(line, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += line.recv(1 << 16)
    if pid := os.fork():
        for file in files:
            os.close(file)
        return pid
    status = 70
    try:
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
    _serve(sys.argv[1])
