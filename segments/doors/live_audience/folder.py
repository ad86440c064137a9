"""
A partner's folder: its files, and which of them may be taken.

    <drop folder>/<partner>/<name>                visible to the partner
    <drop folder>/<partner>/.unfinished/<name>    marks a file that is being written
    <drop folder>/<partner>/.taken/...            ours, on the way into the ledger
    <drop folder>/<partner>/.refused/<name>       a data file of that name was refused for its
                                                  metadata, before it was taken

Incomplete files are never taken. Our SFTP server marks an upload before its first byte and until
the client closes the file; after a broken connection or a kill the mark stays. (A lock would vanish
with the process, and half a file pass for a whole.) Other files, whose closing we don't see, are
complete after a time without writes.

Taking is a rename, so a file is either the partner's or ours. Symbolic links are not followed, and
only regular files are opened.

While `NAME.json` is in the folder or being read, `NAME.status`, which answers an earlier file, is
hidden.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from segments.doors.live_audience.ages import Ages
from segments.doors.live_audience.file_names import (
    ANSWER,
    REFUSED,
    TAKEN,
    UNFINISHED,
    Refused,
    answered_name,
    folder_name,
    is_temporary,
    is_usable,
)

MAX_FILES = 1000
"""The most in a partner's folder, so that listings stay small; without our answers."""

STAT_AFTER_TAKING_S = 30.0
"""How long a taken file still has a stat, by which clients confirm an upload."""

_OPEN_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class _Seen(NamedTuple):
    inode: int
    size_bytes: int
    modified_at_ns: int


class Upload:
    """Permission to write a file, until it is closed or uploaded anew."""

    def __init__(self, name: str) -> None:
        self.name = name


class Folder:
    """A partner's files."""

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock_s = clock_s
        self.ages = Ages(clock_s)
        self._name_to_taken: dict[str, tuple[float, os.stat_result]] = {}
        self._name_to_upload: dict[str, Upload] = {}
        self._name_to_closed: dict[str, _Seen] = {}

    def shown(self) -> list[str]:
        """Return the names that the partner sees."""
        names = self.names()
        unanswered = self._unanswered()
        return [
            name
            for name in names
            if name.removesuffix(ANSWER) not in unanswered or not name.endswith(ANSWER)
        ]

    def shown_stat(self, name: str) -> os.stat_result:
        """
        Return the stat of a file that the partner sees, or that was just taken.

        Raises:
            FileNotFoundError: There is no regular file of that name.
        """
        if self._is_outdated_answer(name):
            raise FileNotFoundError(name)
        try:
            return self.stat(name)
        except FileNotFoundError:
            taken = self._name_to_taken.get(name)
            if taken is None or self._clock_s() - taken[0] >= STAT_AFTER_TAKING_S:
                raise
            return taken[1]

    def open_shown(self, name: str) -> int:
        """
        Open a file that the partner sees, for reading.

        Raises:
            OSError: The file is missing or not regular.
        """
        if self._is_outdated_answer(name):
            raise FileNotFoundError(name)
        return self.open(name, os.O_RDONLY)

    def _is_outdated_answer(self, name: str) -> bool:
        return name.endswith(ANSWER) and name.removesuffix(ANSWER) in self._unanswered()

    def _unanswered(self) -> set[str | None]:

        there = (*self.names(), *_names_in(self.path / TAKEN))
        return {answered_name(each) for each in there}

    def names(self) -> list[str]:
        """Return the names of all regular files with a usable name, sorted."""
        with os.scandir(self.path) as entries:
            found = [e.name for e in entries if e.is_file(follow_symlinks=False)]
        return sorted(name for name in found if is_usable(name))

    def stat(self, name: str) -> os.stat_result:
        """
        Return a file's stat.

        Raises:
            FileNotFoundError: There is no regular file of that name.
        """
        found = os.lstat(self.path / name)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(name)
        return found

    def has(self, name: str) -> bool:
        """Tell whether there is a regular file of that name."""
        try:
            self.stat(name)
        except OSError:
            return False
        return True

    def open(self, name: str, flags: int) -> int:
        """
        Open a regular file and return its descriptor.

        Raises:
            OSError: The file is missing or not regular.
        """
        return _open_regular(self.path / name, flags)

    # -- uploads ---------------------------------------------------------------

    def begin_upload(self, name: str) -> Upload:
        """
        Mark a file as being written, before it is opened.

        An earlier upload can write no longer: most likely its client has lost the connection.

        Raises:
            Refused: The folder is full.
        """
        if not self.has(name) and self._is_full():
            raise Refused(f"there are {MAX_FILES} files in the folder; remove some")
        self._mark(name)
        upload = self._name_to_upload[name] = Upload(name)
        self._name_to_closed.pop(name, None)
        return upload

    def _is_full(self) -> bool:
        return sum(not name.endswith(ANSWER) for name in self.names()) >= MAX_FILES

    def is_current(self, upload: Upload) -> bool:
        """Tell whether an upload may still write."""
        return self._name_to_upload.get(upload.name) is upload

    def finish_upload(self, upload: Upload) -> None:
        """Remove the mark: the client has closed the file."""
        if self.is_current(upload):
            del self._name_to_upload[upload.name]
            with suppress(FileNotFoundError):
                self._name_to_closed[upload.name] = _seen(self.stat(upload.name))
            self._unmark(upload.name)

    def break_upload(self, upload: Upload) -> None:
        """Keep the mark: the client broke off, and may resume."""
        if self.is_current(upload):
            del self._name_to_upload[upload.name]

    def rename(self, old: str, new: str, *, replace: bool) -> None:
        """
        Rename a file; an incomplete file stays incomplete.

        Raises:
            FileNotFoundError: There is no such file.
            FileExistsError: The new name is taken.
            Refused: A file of either name is being written.
        """
        self.stat(old)
        if old in self._name_to_upload or new in self._name_to_upload:
            raise Refused("the file is being written")
        if not replace and os.path.lexists(self.path / new):
            raise FileExistsError(new)
        was_unfinished = self.is_unfinished(old)
        if was_unfinished:
            self._mark(new)
        (self.path / old).rename(self.path / new)
        if not was_unfinished:
            self._unmark(new)
        self._unmark(old)
        self._name_to_closed.pop(new, None)
        closed = self._name_to_closed.pop(old, None)
        if closed is not None:
            self._name_to_closed[new] = closed

    def remove(self, name: str) -> None:
        """
        Remove a file; an upload of it can't continue.

        Raises:
            FileNotFoundError: There is no such file.
        """
        self.stat(name)
        (self.path / name).unlink()
        self._forget(name)

    def is_unfinished(self, name: str) -> bool:
        """Tell whether a file's client at our SFTP server has not closed it."""
        return os.path.lexists(self.path / UNFINISHED / name)

    def drop_abandoned(self, before_s: float) -> int:
        """
        Delete unfinished uploads and temporary files, and return how many.

        Files that a client of this process has open stay, and those that grew, or began again,
        after `before_s`.
        """
        dropped = 0
        for name in self.names():
            if is_temporary(name) and not self.is_unfinished(name):
                dropped += self._drop_older(name, before_s)
        for name in _names_in(self.path / UNFINISHED):
            if name in self._name_to_upload or self._last_change_s(name) >= before_s:
                continue
            if self.has(name):
                (self.path / name).unlink()
                dropped += 1
            self._forget(name)
        return dropped

    def drop_answers(self, before_s: float) -> int:
        """Delete answers older than `before_s`, and return how many."""
        return self.drop_older((n for n in self.names() if n.endswith(ANSWER)), before_s)

    def mark_refused(self, file_name: str) -> None:
        """Note that a data file was refused for its metadata, even if still missing."""
        if is_usable(file_name):
            (self._own(REFUSED) / file_name).touch()

    def refused(self, before_s: float) -> list[str]:
        """Return the names of data files last refused before a time."""
        return [
            name
            for name in _names_in(self.path / REFUSED)
            if os.lstat(self.path / REFUSED / name).st_mtime <= before_s
        ]

    def forget_refused(self, file_name: str) -> None:
        """Remove the note that a data file was refused."""
        (self.path / REFUSED / file_name).unlink(missing_ok=True)

    def drop_older(self, names: Iterable[str], before_s: float) -> int:
        """Delete those files unchanged since a time, and return how many."""
        return sum(self._drop_older(name, before_s) for name in names)

    def drop_undescribed(self, before_s: float) -> int:
        """Delete data files older than `before_s` without metadata; return how many."""
        names = [name for name in self.names() if not name.endswith(ANSWER)]
        return self.drop_older((n for n in names if not self.is_unfinished(n)), before_s)

    def _drop_older(self, name: str, before_s: float) -> bool:
        with suppress(FileNotFoundError):
            if name not in self._name_to_upload and self.stat(name).st_ctime < before_s:
                self.remove(name)
                return True
        return False

    def _last_change_s(self, name: str) -> float:

        changed_s = os.lstat(self.path / UNFINISHED / name).st_ctime
        with suppress(FileNotFoundError):
            changed_s = max(changed_s, self.stat(name).st_ctime)
        return changed_s

    # -- taking ----------------------------------------------------------------

    def is_complete(self, name: str, now_s: float, quiet_s: float) -> bool:
        """Tell whether a file exists and is no longer being written."""
        try:
            found = self.stat(name)
        except FileNotFoundError:
            return False
        if self.is_unfinished(name):
            return False
        if self._name_to_closed.get(name) == _seen(found):
            return True
        # Some clients set `st_mtime` to the original's. The inode's change time moves with every
        # write, and can't be set.
        return self.ages.age_s(name, found.st_ctime, now_s) >= quiet_s

    def take(self, name: str, as_name: str) -> None:
        """Move a file out of the partner's reach; `taken` finds it again."""
        self._own(TAKEN)
        found = self.stat(name)
        (self.path / name).rename(self.path / TAKEN / as_name)
        self._forget(name)
        now_s = self._clock_s()
        for each, (taken_at_s, _) in list(self._name_to_taken.items()):
            if now_s - taken_at_s >= STAT_AFTER_TAKING_S:
                del self._name_to_taken[each]
        self._name_to_taken[name] = (now_s, found)

    def withdraw(self, name: str) -> None:
        """Delete `<name>.status`, if present, the answer to an earlier metadata file."""
        with suppress(FileNotFoundError, IsADirectoryError):
            (self.path / f"{name}{ANSWER}").unlink()

    def taken(self, as_name: str) -> Path | None:
        """Return the path of a taken file, if it exists."""
        path = self.path / TAKEN / as_name
        return path if path.is_file() and not path.is_symlink() else None

    def hand_over(self, name: str, as_name: str) -> None:
        """Rename a taken file."""
        (self.path / TAKEN / name).rename(self.path / TAKEN / as_name)

    def give_back(self, as_name: str, name: str) -> None:
        """Move a taken file back, unless a new file has its name."""
        if is_usable(name) and not os.path.lexists(self.path / name):
            (self.path / TAKEN / as_name).rename(self.path / name)

    def all_taken(self) -> list[str]:
        """Return the names of all taken files, sorted."""
        return _names_in(self.path / TAKEN)

    def drop(self, as_name: str) -> None:
        """Delete a taken file, if it exists."""
        (self.path / TAKEN / as_name).unlink(missing_ok=True)

    def answer(self, name: str, content: bytes) -> None:
        """Write `<name>.status` atomically."""
        self._own(TAKEN)
        path = self.path / TAKEN / f"{name}{ANSWER}"
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.rename(self.path / f"{name}{ANSWER}")

    def _own(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _mark(self, name: str) -> None:
        (self._own(UNFINISHED) / name).touch()

    def _unmark(self, name: str) -> None:
        (self.path / UNFINISHED / name).unlink(missing_ok=True)

    def _forget(self, name: str) -> None:
        self._name_to_upload.pop(name, None)
        self._name_to_closed.pop(name, None)
        self._unmark(name)


class DropFolder:
    """The folders of all partners."""

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock_s = clock_s
        self._name_to_folder: dict[str, Folder] = {}

    def of(self, partner_id: str) -> Folder:
        """Return a partner's folder; make it if missing."""
        name = folder_name(partner_id)
        (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder(name)

    def all(self) -> Iterator[tuple[str, Folder]]:
        """Yield each existing folder with its partner id."""
        try:
            with os.scandir(self.path) as entries:
                names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return
        for name in names:
            if not name.startswith("."):
                yield unquote(name), self._folder(name)

    def _folder(self, name: str) -> Folder:
        return self._name_to_folder.setdefault(name, Folder(self.path / name, self._clock_s))


def _names_in(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path))  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        return []


def _open_regular(path: Path, flags: int) -> int:
    fd = os.open(path, flags | _OPEN_FLAGS, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(path.name)
    return fd


def read_taken(path: Path, max_bytes: int) -> bytes:
    """Return a file's content, cut off after `max_bytes` + 1."""
    with os.fdopen(_open_regular(path, os.O_RDONLY), "rb") as file:
        return file.read(max_bytes + 1)


def _seen(found: os.stat_result) -> _Seen:
    return _Seen(found.st_ino, found.st_size, found.st_mtime_ns)
