"""
The room on a disk for our files: all but a reserve for ledger and store.

A full disk stops every writer, even opt-outs. So files are refused while ledger and store still
have room (as by Elasticsearch's flood-stage watermark), by a new measure each time.

Bytes on their way are not measured: `n` uploads may use `n` x 20 MiB of the reserve.
"""

import os
from pathlib import Path
from typing import Final

from segments.runtime.causes import NoRoom

MOST_RESERVED_BYTES: Final = 1 << 30
_SHARE_RESERVED: Final = 0.05


class Disk:
    """The disk of a directory."""

    def __init__(self, directory: Path, reserve_bytes: int | None = None) -> None:
        """
        Args:
            directory: May be missing: then every check passes.
            reserve_bytes: Files leave this free; `None`: 1 GiB or 5 % of the disk, the smaller.
        """
        self._directory = directory
        self._reserve_bytes = reserve_bytes

    def check_room(self, more_bytes: int = 0) -> None:
        """
        Check that there is room for so much more.

        Raises:
            NoRoom: They would use the reserve.
        """
        if self.left_bytes() < more_bytes:
            raise NoRoom

    def left_bytes(self) -> int:
        """Return the bytes left for files; negative: of the reserve."""
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return 1 << 62  # a write there raises the actual error
        reserve_bytes = self._reserve_bytes
        if reserve_bytes is None:
            whole_bytes = found.f_blocks * found.f_frsize
            reserve_bytes = min(MOST_RESERVED_BYTES, int(whole_bytes * _SHARE_RESERVED))
        return found.f_bavail * found.f_frsize - reserve_bytes
