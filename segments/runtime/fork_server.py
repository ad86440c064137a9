"""
Starts our own programs by forking a process that has imported them.

A program's imports take most of a second of CPU and tens of megabytes. So a process that starts
several programs imports once and, before it has a thread or an event loop, forks a process that
only forks on request:

    we             send a request, with the files that the program inherits
    fork server    forks, and the copy forks again and ends: the kernel gives the
                   program to us, the next adopting ancestor (`PR_SET_CHILD_SUBREAPER`)
    the program    reports its pid once it is our child, and calls the `main` of its module

We adopt only during a request: later orphans, such as a killed program's own children, belong to
init, which waits for them.

So a program is our child as if executed: we wait for its end, it ends when we do (`child_process`),
and it survives the fork server. Without a fork server - killed, or not on Linux - programs are
executed. All programs share the seed of Python's hashes.

A starter of a single program saves a process: its fork server becomes the program, and a restart is
executed.
"""

import array
import asyncio
import atexit
import contextlib
import ctypes
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

from setproctitle import setproctitle

from segments.runtime import child_process
from segments.runtime.child_process import Process

_PR_SET_CHILD_SUBREAPER = 36
_MAX_REQUEST_BYTES = 128 << 10
_MAX_FILES = 16
_ANSWERS_WITHIN_S = 10.0
_CANNOT_FORK = b"-"


class ForkServer:
    """
    A process that has imported our programs' modules.

    Create it before any other thread or an event loop: a forked process has neither.

    Args:
        modules: By name, imported here.
        becomes_program: The first program is the fork server itself, later ones are executed.
    """

    def __init__(self, modules: Sequence[str], *, becomes_program: bool = False) -> None:
        for module in modules:
            import_module(module)
        self._line: socket.socket | None = None
        self._turn = asyncio.Lock()
        if sys.platform == "linux" and threading.active_count() == 1:
            self._line = _fork_the_server(becomes_program=becomes_program)
        self._becomes_program = becomes_program

    async def start(
        self,
        program: str,
        arguments: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Process:
        """
        Start a program as `child_process.start` starts `python -m PROGRAM ARGUMENTS`.

        `program` is a module with a `main`; `env` is ours if `None`; `pass_fds` keep their numbers.
        """
        env = os.environ if env is None else env
        asking = asyncio.create_task(self._forked(program, arguments, env, pass_fds))
        try:
            forked = await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(_unwanted)
            raise
        if forked is not None:
            return forked
        argv = (sys.executable, "-m", program, *arguments)
        return await child_process.start(argv, env=env, pass_fds=pass_fds)

    async def _forked(
        self,
        program: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        pass_fds: Sequence[int],
    ) -> "_Forked | None":
        asked = [program, list(arguments), dict(env), os.getcwd(), list(pass_fds)]  # noqa: PTH109
        request = json.dumps(asked).encode(errors="surrogatepass")
        if len(request) > _MAX_REQUEST_BYTES or len(pass_fds) > _MAX_FILES:
            return None
        async with self._turn:
            if self._line is None:
                return None
            _adopt(orphans=True)
            try:
                answer = await _answer(self._line, request, pass_fds)
                forked = None if answer == _CANNOT_FORK else _watched(int(answer))
            except OSError:  # includes TimeoutError
                self._close()
                forked = None
            if self._becomes_program:
                self._close()
            # Not after a cancellation: an adopted program ends with us.
            _adopt(orphans=False)
            return forked

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


class _Forked:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(pid)
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        loop.add_reader(self._pidfd, self._end, loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set_result(self.returncode)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def send_signal(self, signal: int) -> None:
        if self.returncode is None:  # not waited for, so the pid is still valid
            os.kill(self.pid, signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _watched(pid: int) -> _Forked:
    """
    Watch for a program's end.

    Raises:
        OSError: No file descriptor is free, say; the program was killed.
    """
    try:
        return _Forked(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _unwanted(asking: "asyncio.Task[_Forked | None]") -> None:
    if not asking.cancelled() and asking.exception() is None and (started := asking.result()):
        started.kill()


async def _answer(line: socket.socket, request: bytes, fds: Sequence[int]) -> bytes:
    """
    Return the answer to a request.

    Raises:
        OSError: The fork server has ended, or is too slow.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    async with asyncio.timeout(_ANSWERS_WITHIN_S):
        line.sendmsg([request], rights)
        answer = await asyncio.get_running_loop().sock_recv(line, 64)
    if not answer:
        raise ConnectionResetError
    return answer


def _adopt(*, orphans: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(orphans))


def _fork_the_server(*, becomes_program: bool) -> socket.socket:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()  # the collector never writes to frozen objects, so their pages stay shared
    us = os.getpid()
    if os.fork():
        its.close()
        ours.setblocking(False)
        return ours
    try:
        ours.close()
        os.setsid()
        child_process.end_with(us)
        setproctitle(f"{sys.executable} -m {__name__}")
        if becomes_program:
            _become_program(its, us)
        else:
            _serve(its, us)
    finally:
        os._exit(0)


def _become_program(line: socket.socket, starter: int) -> None:
    """Be the first program that is asked for; return if none is."""
    asked, fds, _, _ = socket.recv_fds(line, _MAX_REQUEST_BYTES, _MAX_FILES)
    if not asked:
        return
    _report_and_run(line, starter, asked, fds)


def _serve(line: socket.socket, starter: int) -> None:
    while True:
        asked, fds, _, _ = socket.recv_fds(line, _MAX_REQUEST_BYTES, _MAX_FILES)
        if not asked:
            return
        try:
            between = os.fork()
        except OSError:
            line.send(_CANNOT_FORK)
        else:
            if not between:
                _fork_once_more(line, starter, asked, fds)
            os.waitpid(between, 0)
        for fd in fds:
            os.close(fd)


def _fork_once_more(
    line: socket.socket, starter: int, asked: bytes, fds: Sequence[int]
) -> NoReturn:
    between = os.getpid()
    try:
        is_program = os.fork() == 0
    except OSError:
        line.send(_CANNOT_FORK)
        os._exit(0)
    if not is_program:
        os._exit(0)
    while os.getppid() == between:  # it ends at once
        os.sched_yield()
    os.setsid()
    _report_and_run(line, starter, asked, fds)


def _report_and_run(
    line: socket.socket, starter: int, asked: bytes, fds: Sequence[int]
) -> NoReturn:
    try:
        child_process.end_with(starter)
        line.send(b"%d" % os.getpid())
        line.close()
        _run(asked, fds)
    except BaseException:  # noqa: BLE001 - as the interpreter treats an uncaught exception
        traceback.print_exc()
    os._exit(1)


def _run(asked: bytes, fds: Sequence[int]) -> NoReturn:
    program, arguments, env, folder, numbers = json.loads(asked)
    _place(fds, numbers)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    setproctitle(" ".join([sys.executable, "-m", program, *arguments]))
    sys.argv = [program, *arguments]
    status: Any = 0
    try:
        import_module(program).main()
    except SystemExit as ended:
        status = ended.code
    except BaseException:  # noqa: BLE001 - as the interpreter treats an uncaught exception
        traceback.print_exc()
        status = 1
    if status is not None and not isinstance(status, int):
        sys.stderr.write(f"{status}\n")
        status = 1
    _end(status or 0)


def _place(fds: Sequence[int], numbers: Sequence[int]) -> None:
    free = max(numbers, default=0) + 1
    away = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, free) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(away, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def _end(status: int) -> NoReturn:
    """End as the interpreter does, not through the forked copy's frames."""
    # As multiprocessing does for its forks.
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
