"""
Reasons why a part of the service can't be used now: one list for all.

A cause is no fault of the request, and passes: the request gets the cause's status, or the work
waits or is retried. Doors, the log, `/health/ready` and `doctor` use the same words.

    errno of this machine     here
    of the ledger             `segments.ledger.database.errors`, by the database's own codes
    of any part               `segments.projection.causes`

No text names a path, a URL or a host: partners read them, too.
"""

import errno
from typing import Final, NamedTuple


class Cause(NamedTuple):
    """
    Why a part can't be used.

    Attributes:
        status: Of an HTTP door: 503, or 507 for want of room.
        words: The predicate after the part's name: "the ledger *is full*".
        cure: The operator's remedy.
    """

    status: int
    words: str
    cure: str

    def of(self, part: str, said: str = "") -> str:
        """Return the line for the operator; `said` is another server's message, if any."""
        return f"{part} {self.words}{f' ({said})' if said else ''}; {self.cure}"


FULL: Final = Cause(507, "is full", "make room on its disk")
RESERVED: Final = Cause(
    507,
    "has no room but what is kept for ledger and store",
    "make room on its disk, or lower SEGMENTS_RESERVE_BYTES",
)
DESCRIPTORS: Final = Cause(
    503,
    "can't be opened: all file descriptors are in use",
    "raise the limit of open files (`ulimit -n`, LimitNOFILE, --ulimit nofile)",
)
READ_ONLY: Final = Cause(503, "can only be read", "let the service write to it")
FORBIDDEN: Final = Cause(503, "is not the service's to use", "give it to the service's user")
GONE: Final = Cause(503, "is not there", "mount it, or put it back")
LOST: Final = Cause(
    503,
    "is not there, so nothing is kept of it",
    "put it back, or start the service again and run `rtb-segments rebuild`",
)
ILL: Final = Cause(503, "fails to read or write", "see what the kernel says of its disk")
NO_MEMORY: Final = Cause(503, "has no memory left", "give the machine more, or less to do")
UNANSWERED: Final = Cause(
    503,
    "does not answer, or refuses",
    "see that SEGMENTS_BLOB_URL is right, its server runs, and lets the service read and write",
)
OTHER: Final = Cause(503, "can't be used", "see the log")

_ERRNO_TO_CAUSE: Final = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EMFILE: DESCRIPTORS,
    errno.ENFILE: DESCRIPTORS,
    errno.EROFS: READ_ONLY,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.ENOENT: GONE,
    errno.ENOTDIR: GONE,
    errno.ESTALE: GONE,
    errno.EIO: ILL,
    errno.ENOMEM: NO_MEMORY,
}


class NoRoom(OSError):
    """A disk has no room beyond the reserve for ledger and store."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, RESERVED.words)


class DirectoryGone(OSError):
    """A directory of ours is missing, such as that of an unmounted disk."""

    def __init__(self) -> None:
        super().__init__(errno.ENOENT, GONE.words)


def of_os_error(error: OSError) -> Cause:
    """Return the cause of an error of this machine."""
    if isinstance(error, NoRoom):
        return RESERVED
    return _ERRNO_TO_CAUSE.get(error.errno or 0, OTHER)


def is_of_the_machine(error: BaseException) -> bool:
    """
    Tell whether the machine fails, not a file's content.

    Readers of archives and tables raise an `OSError` without a number for malformed bytes; a
    missing file is its job's fault.
    """
    if isinstance(error, DirectoryGone):
        return True
    known = _ERRNO_TO_CAUSE.get(getattr(error, "errno", None) or 0)
    return isinstance(error, OSError) and known is not None and known is not GONE
