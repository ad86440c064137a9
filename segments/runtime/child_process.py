"""
Starts processes that never outlive us.

Each child gets its own session, so that Ctrl-C in a terminal reaches only the parent, which then
stops its children in the right order. The kernel signals each child at the parent's end
(`PR_SET_PDEATHSIG`), so that even after `kill -9` no child holds the store or a port. SIGHUP is
ignored until the program handles it: it must not end a starting program.

The child itself must request that signal, between fork and exec. `preexec_fn` would run in a copy
of a process that may have threads, where any lock may be held for ever. So the child starts as this
file, requests the signal, checks that its parent lives, and becomes the program.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

_PR_SET_PDEATHSIG = 1


class Process(Protocol):
    """A started program, forked or executed."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative after a signal; `None` until waited for."""

    async def wait(self) -> int:
        """Return its exit status once it has ended."""

    def send_signal(self, signal: int) -> None:
        """Send a signal; a no-op after its end."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


async def start(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """
    Start a program that gets SIGTERM at this process's end.

    Call this in the main thread: to the kernel, the parent is the thread.

    `env` is ours if `None`; `pass_fds` are inherited.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-IS",
        __file__,
        str(os.getpid()),
        *argv,
        env=env,
        pass_fds=pass_fds,
        start_new_session=True,
    )


async def stop(process: Process, *, within_s: float) -> int:
    """
    End a child by SIGTERM, or SIGKILL when its time is up.

    Returns:
        Its exit status; negative after a signal.
    """
    if process.returncode is None:
        process.terminate()
    try:
        return await asyncio.wait_for(process.wait(), within_s)
    except TimeoutError:
        process.kill()
        return await process.wait()


def end_with(parent_pid: int) -> None:
    """Have this process get SIGTERM at its parent's end, and no terminal's signals."""
    if sys.platform == "linux":  # elsewhere a killed parent leaves its children
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.getppid() != parent_pid:
        sys.exit("the parent was gone before its child had started")


def _become(parent_pid: int, argv: list[str]) -> None:
    end_with(parent_pid)
    os.execvp(argv[0], argv)  # noqa: S606 - the purpose of this function


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
