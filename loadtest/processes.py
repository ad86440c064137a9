from pathlib import Path


def children_of(pid: int, *, running: str | None = None) -> list[int]:
    """Return a process's children, optionally only our programs."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        found = [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except OSError:  # ended meanwhile
        return []
    return [child for child in found if running is None or f"-m {running}" in _title(child)]


def workers_of(supervisor_pid: int) -> set[int]:
    """Return the workers of a bid listener, given its supervisor."""
    return set(children_of(supervisor_pid, running="rtb.server.worker"))


def only_worker(supervisor_pid: int) -> int | None:
    """Return the only worker of a bid listener; `None` until it exists."""
    workers = workers_of(supervisor_pid)
    return workers.pop() if len(workers) == 1 else None


def parent_of(pid: int) -> int:
    """Return the parent of a running process."""
    # The name before it, in parentheses, may have any character.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def only_child(pid: int) -> int | None:
    """Return the only child of a process; `None` until it exists."""
    children = children_of(pid)
    return children[0] if len(children) == 1 else None


def _title(pid: int) -> str:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return arguments.replace(b"\0", b" ").decode(errors="replace")
