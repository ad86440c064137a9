"""The name of a lease's owner, by which others can tell when it is dead."""

import os
import socket
from functools import cache
from pathlib import Path


@cache
def this_process() -> str:
    """
    Return this process's name, never another's: host, process namespace, process id, start time.

    In containers a restart changes only the last.
    """
    return f"{_machine()}:{os.getpid()}:{_started_at(os.getpid())}"


def may_live(process: str) -> bool:
    """Tell whether a process may live; always true on another machine."""
    machine, pid, started_at = process.rsplit(":", 2)
    return machine != _machine() or _started_at(int(pid)) == started_at


@cache
def _machine() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        namespace = ""
    return f"{socket.gethostname()}:{namespace}"


def _started_at(pid: int) -> str:
    try:
        # After the program's name, which may hold blanks and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
