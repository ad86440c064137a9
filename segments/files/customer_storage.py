"""
A customer's directory or bucket, opened: which files are there, and what is in one.

A file is known by its path and its version: whoever opens one gets what was listed
and nothing that came since. All of it blocks, and is meant for a worker thread.
"""

import io
from typing import NamedTuple, Protocol

MAX_FILES = 10_000
"""So many a folder may hold for one run."""

_HIDDEN = (".", "_")
"""What others' tools leave beside the data: `_SUCCESS`, `.crc`."""


class StorageAway(Exception):
    """The directory or the bucket can't be read; the message names no path of it."""


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


def away(error: Exception) -> StorageAway:
    """Say that something failed, and not in its own words: they may quote a path."""
    return StorageAway(f"the base connection can't be read ({type(error).__name__})")
