"""
Base connections: the customers' directories and buckets, out of which files are taken.

Nothing outside of one can be reached through it. A path that a customer gives is
split here and nowhere else; in a directory each of its segments is opened below
the one before, and none of them may be a symbolic link, not even one that was
put there between the look and the opening. That is why directories are not read
by obstore, which follows links; buckets, which have none, are. A bucket's URL
may name a prefix, which stands before every path.

What is secret about a bucket stands in the environment of our processes: an
option `env:NAME` is the value of that variable, read when the bucket is opened.

All of it blocks, and is meant for a worker thread.
"""

import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast
from urllib.parse import unquote, urlsplit

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from segments.blobs import Blob
from segments.ledger.refusal import Refusal

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import ObjectMeta
    from obstore.store import S3Config

MAX_PATH_CHARS = 1024
MAX_FILES = 10_000
"""So many a folder may hold for one run."""

_ENV = "env:"
_OPTION_PREFIXES = ("aws_", "azure_", "google_")
_SECRET_WORDS = ("secret", "password", "token", "sas", "account_key", "service_account_key")
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


class BaseConnection(msgspec.Struct, frozen=True):
    """One row of the ledger's base connections."""

    id: int
    public_id: str  # `baseConnectionId`
    sandbox_id: int
    name: str
    url: str
    options: dict[str, str]


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


def checked_path(text: str) -> str:
    """
    Return a path below a connection, as customers may give it.

    Raises:
        ValueError: It has blanks, which the vendor refuses; or it could lead
            anywhere but down.
    """
    path = text.removesuffix("/")
    if not 0 < len(path) <= MAX_PATH_CHARS:
        raise ValueError(f"a path of {len(path)} characters, not 1 to {MAX_PATH_CHARS}")
    if not path.isprintable() or " " in path or "\\" in path:
        raise ValueError("a path with blanks, backslashes or characters that can't be printed")
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise ValueError("not a path that leads down from the base connection")
    return path


def checked(url: str, options: Mapping[str, str]) -> str:
    """
    Return a connection's URL, if it can be opened with these options.

    Raises:
        Refusal: It can't, or an option that is secret is given as it stands.
    """
    for name, value in options.items():
        is_secret = any(word in name.lower() for word in _SECRET_WORDS)
        if is_secret and not value.startswith(_ENV):
            raise Refusal(f"option {name} is secret: name a variable, {name}=env:VARIABLE")
    try:
        _open(url, options)
    except StorageAway as error:
        raise Refusal(str(error)) from None
    return url


def open_storage(connection: BaseConnection) -> Storage:
    """
    Open a connection; nothing is asked of the other side yet.

    Raises:
        StorageAway: Its directory or an environment variable is not there.
    """
    return _open(connection.url, connection.options)


def _open(url: str, options: Mapping[str, str]) -> Storage:
    parts = urlsplit(url)
    if parts.scheme == "file":
        directory = Path(unquote(parts.path))
        if parts.netloc or options or not directory.is_absolute():
            raise StorageAway("not of the form file:///DIRECTORY, without options")
        return _Directory(directory)
    config = {name: _value(value) for name, value in options.items()}
    # Of the client and not of the bucket; obstore panics where it finds it there.
    may_be_plain = config.pop("allow_http", "false").lower() == "true"
    if not all(name.startswith(_OPTION_PREFIXES) for name in config):
        raise StorageAway(f"options are allow_http and names that begin {_OPTION_PREFIXES}")
    try:
        bucket = from_url(
            url,
            config=cast("S3Config", config),
            client_options={
                "allow_http": may_be_plain,
                "timeout": "60s",
                "connect_timeout": "5s",
            },
            retry_config={"max_retries": 2},
        )
    except (BaseError, ValueError, OSError) as error:
        # Not its words: they quote the URL, and may quote what is secret.
        raise StorageAway(f"no bucket can be opened by this URL ({type(error).__name__})") from None
    return _Bucket(bucket)


def _value(text: str) -> str:
    if not text.startswith(_ENV):
        return text
    name = text.removeprefix(_ENV)
    if name not in os.environ:
        raise StorageAway(f"the environment variable {name} is not set")
    return os.environ[name]


def _is_hidden(path: str) -> bool:
    return path.rpartition("/")[2].startswith(_HIDDEN)


class _Directory:
    """A directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def file(self, path: str) -> SourceFile:
        fd = self._open_file(path)
        try:
            return _source_file(path, os.fstat(fd))
        finally:
            os.close(fd)

    def folder(self, path: str) -> list[SourceFile]:
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
            raise _away(error) from None
        finally:
            os.close(fd)

    def open(self, file: SourceFile) -> io.RawIOBase:
        fd = self._open_file(file.path)
        if _source_file(file.path, os.fstat(fd)) != file:
            os.close(fd)
            raise NotThere
        return io.FileIO(fd)

    def _open_file(self, path: str) -> int:
        *folders, name = path.split("/")
        parent = self._descend(folders)
        try:
            # Not blocking: opening a named pipe would otherwise wait for its writer.
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
            raise _away(error) from None
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
            if _is_hidden(below) or not below.isprintable():
                continue
            # It may be gone, or a link, a moment after it was listed.
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
    # ELOOP and ENOTDIR: a symbolic link, which is not followed.
    is_away = isinstance(error, PermissionError)
    return _away(error) if is_away else NotThere()


def _away(error: Exception) -> StorageAway:
    return StorageAway(f"the base connection can't be read ({type(error).__name__})")


class _Bucket:
    """A bucket, by obstore."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def file(self, path: str) -> SourceFile:
        try:
            return _of_bucket(obstore.head(self._store, path))
        except FileNotFoundError:
            raise NotThere from None
        except (BaseError, OSError, ValueError) as error:
            raise _away(error) from None

    def folder(self, path: str) -> list[SourceFile]:
        found: list[SourceFile] = []
        try:
            for entries in obstore.list(self._store, path):
                files = (_of_bucket(entry) for entry in entries)
                found += [f for f in files if not _is_hidden(f.path) and f.path.isprintable()]
                if len(found) > MAX_FILES:
                    raise TooManyFiles
        except (BaseError, OSError, ValueError) as error:
            raise _away(error) from None
        return sorted(found)

    def open(self, file: SourceFile) -> io.RawIOBase:
        if self.file(file.path) != file:
            raise NotThere
        return _BucketFile(self._store, file.path, file.size_bytes)


class _BucketFile(Blob):
    """A file of a bucket; that it can't be read is not a fault of its content."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        try:
            return super().readinto(buffer)
        except (BaseError, OSError, ValueError) as error:
            raise _away(error) from None


def _of_bucket(entry: "ObjectMeta") -> SourceFile:
    modified_at_s = entry["last_modified"].timestamp()
    version = (entry["e_tag"] or f"{entry['size']}-{modified_at_s}")[:128]
    return SourceFile(entry["path"], version, entry["size"], modified_at_s)
