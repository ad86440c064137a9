"""
A customer's directory or bucket, opened: its files and their contents.

A file is identified by path and version: opening gives the listed content. All methods block.
"""

import io
import re
from typing import NamedTuple, Protocol

MAX_FILES = 10_000
"""The most files of a folder for a run."""

_HIDDEN = (".", "_")
"""Other tools' files beside the data: `_SUCCESS`, `.crc`."""


class StorageAway(Exception):
    """The directory or bucket can't be read; the message says why, without paths."""


class ConnectionUnusable(StorageAway):
    """The operator has set up the connection wrongly."""


class NotThere(Exception):
    """There is no such file, or not in the listed version."""


class TooManyFiles(Exception):
    """The folder holds more than `MAX_FILES`."""


class SourceFile(NamedTuple):
    """A customer's file, as listed."""

    path: str  # below the connection
    version: str  # differs for different content
    size_bytes: int
    modified_at_s: float


class Storage(Protocol):
    """A directory or a bucket, opened."""

    def file(self, path: str) -> SourceFile:
        """
        Return a file.

        Raises:
            NotThere, StorageAway: See their docstrings.
        """

    def folder(self, path: str) -> list[SourceFile]:
        """
        Return all files below a folder, by path; none if there is no such folder.

        Raises:
            TooManyFiles, StorageAway: See their docstrings.
        """

    def open(self, file: SourceFile) -> io.RawIOBase:
        """
        Open a file for reading.

        Raises:
            NotThere: Its version has changed.
            StorageAway: See its docstring.
        """


def is_hidden(path: str) -> bool:
    """Tell by its name whether a file is no data."""
    return path.rpartition("/")[2].startswith(_HIDDEN)


def away(what: str, error: Exception) -> StorageAway:
    """
    Describe a directory's or bucket's failure, without the error's words, which quote a path.
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
    # directories
    "FileNotFoundError": "is not there",
    "NotADirectoryError": "is not there",
    "PermissionError": "may not be read by the service",
    # buckets, by obstore's class names
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
"""Parts of obstore's message, never passed on, for errors without a class."""

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
