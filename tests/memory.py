"""The memory of processes, as the kernel counts it."""

from pathlib import Path


def proportional_bytes(pid: int) -> int:
    """Return a process's memory, none if it has ended; shared pages count in parts (PSS)."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(rollup.partition("\nPss:")[2].split()[0]) * 1024


def family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
