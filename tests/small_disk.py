"""
A disk of a few mebibytes, to be filled: a real mount, so that what is full is really full.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20


def _as_root(*command: str) -> None:
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*prefix, *command], check=True)


class SmallDisk:
    """A tmpfs of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, *, but_bytes: int = 0) -> None:
        """Leave so many bytes free, and no more."""
        with self._ballast.open("ab") as file:
            more = self.free_bytes() - but_bytes
            if more > 0:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, more)
        assert self.free_bytes() <= max(but_bytes, 0)

    def make_room(self) -> None:
        """Take away what it was filled with."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def mounted(path: Path, *, size_bytes: int) -> Iterator[SmallDisk]:
    """Mount a small disk for as long as the context lasts."""
    path.mkdir(parents=True, exist_ok=True)
    owner = f"uid={os.geteuid()},gid={os.getegid()}"
    _as_root("mount", "-t", "tmpfs", "-o", f"size={size_bytes},{owner}", "tmpfs", str(path))
    try:
        yield SmallDisk(path)
    finally:
        _as_root("umount", "--lazy", str(path))
