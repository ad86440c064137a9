"""
A customer's directory on this machine, from which no path leads out.

Each segment of a path is opened relative to its parent, and none may be a symbolic link, even if
made after the listing. obstore follows links.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from segments.files.customer_storage import (
    MAX_FILES,
    NotThere,
    SourceFile,
    TooManyFiles,
    away,
    is_hidden,
)


class CustomerDirectory:
    """Files below a root; see `segments.files.customer_storage.Storage`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def file(self, path: str) -> SourceFile:
        """Return a file."""
        fd = self._open_file(path)
        try:
            return _source_file(path, os.fstat(fd))
        finally:
            os.close(fd)

    def folder(self, path: str) -> list[SourceFile]:
        """Return all files below a folder, by path."""
        try:
            fd = self._descend(path.split("/"))
        except NotThere:
            return []
        try:
            found = []
            for file in _walk(fd, path):
                found.append(file)
                if len(found) > MAX_FILES:
                    raise TooManyFiles
            return sorted(found)
        except OSError as error:
            raise away("the directory", error) from None
        finally:
            os.close(fd)

    def open(self, file: SourceFile) -> io.RawIOBase:
        """Open a file in its listed version."""
        fd = self._open_file(file.path)
        if _source_file(file.path, os.fstat(fd)) != file:
            os.close(fd)
            raise NotThere
        return io.FileIO(fd)

    def _open_file(self, path: str) -> int:
        *folders, name = path.split("/")
        parent = self._descend(folders)
        try:
            # Opening a named pipe would wait for its writer.
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        except OSError as error:
            raise _not_there_or_away(error) from None
        finally:
            os.close(parent)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotThere
        return fd

    def _descend(self, folders: list[str]) -> int:
        try:
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise away("the directory", error) from None
        for folder in folders:
            above = fd
            try:
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            except OSError as error:
                raise _not_there_or_away(error) from None
            finally:
                os.close(above)
        return fd


def _walk(fd: int, path: str) -> Iterator[SourceFile]:
    with os.scandir(fd) as entries:
        for entry in entries:
            below = f"{path}/{entry.name}"
            if is_hidden(below) or not below.isprintable():
                continue
            # An entry may disappear, or become a link.
            with suppress(FileNotFoundError, NotADirectoryError):
                if entry.is_dir(follow_symlinks=False):
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                    deeper = os.open(entry.name, flags, dir_fd=fd)
                    try:
                        yield from _walk(deeper, below)
                    finally:
                        os.close(deeper)
                elif entry.is_file(follow_symlinks=False):
                    yield _source_file(below, entry.stat(follow_symlinks=False))


def _source_file(path: str, status: os.stat_result) -> SourceFile:
    version = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"
    return SourceFile(path, version, status.st_size, status.st_mtime)


def _not_there_or_away(error: OSError) -> Exception:
    # ELOOP and ENOTDIR are symbolic links, which are not followed.
    is_away = isinstance(error, PermissionError)
    return away("the directory", error) if is_away else NotThere()
