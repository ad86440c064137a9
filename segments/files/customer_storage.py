"""
A customer's directory or bucket, opened: which files are there, and what is in one.

A file is known by its path and its version: whoever opens one gets what was listed
and nothing that came since. All of it blocks, and is meant for a worker thread.
"""

import io
import re
from typing import NamedTuple, Protocol

MAX_FILES = 10_000
"""So many a folder may hold for one run."""

_HIDDEN = (".", "_")
"""What others' tools leave beside the data: `_SUCCESS`, `.crc`."""


class StorageAway(Exception):
    """The directory or the bucket can't be read; the message says how, and names no path of it."""


class ConnectionUnusable(StorageAway):
    """It has not even been asked: what the operator has set of the connection is wrong."""


class NotThere(Exception):
    """There is no such file in it; or it is not the one that was listed."""


class TooManyFiles(Exception):
    """The folder holds more than `MAX_FILES`."""


class SourceFile(NamedTuple):
    """One file of a customer's, as it was when it was listed."""

    path: str  # below the connection
    version: str  # another content has another one
    size_bytes: int
    modified_at_s: float


class Storage(Protocol):
    """A directory or a bucket, opened."""

    def file(self, path: str) -> SourceFile:
        """
        Return one file.

        Raises:
            NotThere, StorageAway: As they say.
        """

    def folder(self, path: str) -> list[SourceFile]:
        """
        Return all files below a folder, by path; of a folder that is not there, none.

        Raises:
            TooManyFiles, StorageAway: As they say.
        """

    def open(self, file: SourceFile) -> io.RawIOBase:
        """
        Open a file for reading.

        Raises:
            NotThere: It is another one by now.
            StorageAway: As it says.
        """


def is_hidden(path: str) -> bool:
    """Tell whether a file is none of the customer's data, by its name."""
    return path.rpartition("/")[2].startswith(_HIDDEN)


def away(what: str, error: Exception) -> StorageAway:
    """
    Say how a directory or a bucket failed, and not in the error's own words: they quote a path.

    Args:
        what: "the directory" or "the bucket".
        error: As it came.
    """
    return StorageAway(f"{what} {_how(error)}")


def _how(error: Exception) -> str:
    by_name = _NAME_TO_HOW.get(type(error).__name__)
    if by_name is not None:
        return by_name
    said = str(error)
    for words, how in _WORDS_TO_HOW.items():
        if words in said:
            return how
    status = _STATUS.search(said)
    return f"answers with status {status[1]}" if status else "can't be read"


_NAME_TO_HOW = {
    # of directories
    "FileNotFoundError": "is not there",
    "NotADirectoryError": "is not there",
    "PermissionError": "may not be read by the service",
    # of buckets, as obstore calls them
    "NotFoundError": "is not there",
    "PermissionDeniedError": "does not permit the service to read it",
    "UnauthenticatedError": "does not accept the service's credentials",
    "InvalidPathError": "can have no such path",
}
_WORDS_TO_HOW = {
    "<Code>NoSuchBucket</Code>": "is not there",
    '"dns error"': "can't be found: no host of its name is known",
    "kind: Timeout": "has not answered in time",
    "kind: Connect": "can't be reached: no connection to its host can be made",
}
"""Of errors that have no class of their own: what obstore says of them, which is not passed on."""

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
