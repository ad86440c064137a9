"""
Start a process that never outlives us.

Each child gets a session of its own, so that Ctrl-C in a terminal reaches only
the parent, which then stops its children in the right order. And each is told
by the kernel when the parent is gone (`PR_SET_PDEATHSIG`), so that even
`kill -9` leaves nothing behind that would hold the store or a port. SIGHUP is
ignored until the program has a use for it: it must not end one that only starts.

The kernel's promise must be asked for by the child itself, between fork and
exec. `preexec_fn` would do that in a copy of a process that may have threads,
where any lock may be held for ever; so the child starts as this file, which
asks, looks once more that its parent is alive, and becomes the program.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

_PR_SET_PDEATHSIG = 1


async def start(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """
    Start a program that gets SIGTERM when this process ends, however it ends.

    Call it from the main thread: to the kernel, the parent is the thread.

    Args:
        argv: The program, by path, and its arguments.
        env: Its environment; ours if `None`.
        pass_fds: File descriptors that it inherits.
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


async def stop(process: asyncio.subprocess.Process, *, within_s: float) -> int:
    """
    End a child: SIGTERM, and SIGKILL for one that is not done in time.

    Returns:
        Its exit status; negative if a signal ended it.
    """
    if process.returncode is None:
        process.terminate()
    try:
        return await asyncio.wait_for(process.wait(), within_s)
    except TimeoutError:
        process.kill()
        return await process.wait()


def _become(parent_pid: int, argv: list[str]) -> None:
    if sys.platform == "linux":  # elsewhere a killed parent does leave its children
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.getppid() != parent_pid:
        sys.exit("the parent was gone before its child had started")
    os.execvp(argv[0], argv)  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
