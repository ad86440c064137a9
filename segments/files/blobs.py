"""
One door to delivered files: a local directory, or a bucket.

A blob is written once, whole or not at all, under a name that we make up; what
a partner calls a file is data and never a path. It is kept for as long as the
store may have to be rebuilt from it. Nothing here holds more than a few
mebibytes of a file in memory, whatever its size.

Reads are by range, of `READ_BYTES` each: obstore's own stream hands a local
file over in small pieces from one thread to another, at 0.2 GB/s against 3 GB/s
for ranges (measured). They block, and are meant for a worker thread; writes
and the rest are awaited.
"""

import asyncio
import hashlib
import io
import os
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import obstore
from obstore.store import GCSStore, LocalStore, ObjectStore, S3Store, from_url

from segments.files.chunks import READ_BYTES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DELIVERIES = "deliveries"
"""The prefix of all files that jobs name."""

UPLOADS = "uploads"
"""The prefix under which a bucket's own URLs let partners put files, until they are taken."""

_PART_BYTES = 5 << 20  # S3 takes no smaller parts
_PARTS_AT_ONCE = 4
_UNFINISHED = re.compile(r"#\d+$")
"""How obstore names a local file while it is written; its listings leave these out."""


def delivery_name(partner_id: int) -> str:
    """
    Make up the name of a blob that a job of a partner's will name.

    What the partner calls the file is data, and no part of a path.
    """
    return f"{DELIVERIES}/{partner_id}/{secrets.token_hex(16)}"


class Stored(NamedTuple):
    """What was written: enough to know the same content when it comes again."""

    size_bytes: int
    sha256: str


class Found(NamedTuple):
    """What a bucket knows of a blob; the same content has the same tag, if it has one."""

    size_bytes: int
    e_tag: str


class Blobs:
    """All blobs of one directory or bucket."""

    def __init__(self, store: ObjectStore, directory: Path | None = None) -> None:
        self._store = store
        self._directory = directory

    @classmethod
    def open(cls, at: str | Path) -> Self:
        """Open the blobs at a URL, or in a local directory, which is made if it is missing."""
        return cls(from_url(at)) if isinstance(at, str) else cls.in_directory(at)

    @classmethod
    def in_directory(cls, directory: Path) -> Self:
        """Keep blobs below a local directory, which only we may enter."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(LocalStore(directory), directory)

    async def put(self, name: str, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> Stored:
        """
        Write a blob, streamed; if the chunks end in an exception, nothing is written.

        On return a local blob is on the disk, not only on its way there: the
        job that names it is about to be promised to someone.
        """
        counted = _Counted(chunks)
        await obstore.put_async(
            self._store,
            name,
            counted,
            chunk_size=_PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )
        if self._directory is not None:
            await asyncio.to_thread(_sync, self._directory / name)
        return Stored(counted.size_bytes, counted.sha256.hexdigest())

    def get(self, name: str) -> "Blob":
        """
        Open a blob for reading, from a worker thread.

        Raises:
            FileNotFoundError: No blob of that name.
        """
        return Blob(self._store, name, obstore.head(self._store, name)["size"])

    async def delete(self, name: str) -> None:
        """Delete a blob; one that is not there is as good as deleted."""
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return

    async def names(self, prefix: str = "") -> list[str]:
        """List the names of all blobs under a prefix of whole path segments, sorted."""
        listing = obstore.list(self._store, prefix or None)
        return sorted([entry["path"] async for entries in listing for entry in entries])

    async def names_before(self, prefix: str, at_s: float) -> list[str]:
        """List the names of the blobs under a prefix that were written before a moment."""
        before = datetime.fromtimestamp(at_s, UTC)
        listing = obstore.list(self._store, prefix)
        return [
            entry["path"]
            async for entries in listing
            for entry in entries
            if entry["last_modified"] < before
        ]

    async def delete_unfinished(self, before_s: float) -> int:
        """
        Delete what writes have left that ended with their process; return how many there were.

        Of a local directory only. What a bucket keeps of a broken multipart upload
        is not listed with its blobs: that is for a rule of the bucket's own
        (S3: `AbortIncompleteMultipartUpload`).

        Args:
            before_s: Only what nobody has written to since then.
        """
        if self._directory is None:
            return 0
        return await asyncio.to_thread(_delete_unfinished, self._directory, before_s)

    @property
    def takes_uploads(self) -> bool:
        """The bucket gives out URLs to which a plain PUT can be made."""
        return isinstance(self._store, S3Store | GCSStore)

    async def upload_url(self, name: str, expires_in_s: int) -> str:
        """Return a URL of the bucket's own to which one blob can be put; see `takes_uploads`."""
        assert isinstance(self._store, S3Store | GCSStore), "asked of a bucket that takes uploads"
        return await obstore.sign_async(self._store, "PUT", name, timedelta(seconds=expires_in_s))

    async def download_url(self, name: str, expires_in_s: int) -> str:
        """Return a URL of the bucket's own at which one blob can be had; see `takes_uploads`."""
        assert isinstance(self._store, S3Store | GCSStore), "asked of a bucket that signs URLs"
        return await obstore.sign_async(self._store, "GET", name, timedelta(seconds=expires_in_s))

    async def find(self, name: str) -> Found | None:
        """Return what can be said of a blob without reading it; `None` if it is not there."""
        try:
            meta = await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return None
        return Found(meta["size"], meta["e_tag"] or "")

    async def copy(self, name: str, to: str) -> None:
        """
        Copy a blob as it is now, within the bucket.

        Raises:
            FileNotFoundError: It is not there.
        """
        await obstore.copy_async(self._store, name, to)


class Blob(io.RawIOBase):
    """One blob, open for reading anywhere in it: what `zipfile` and `gzip` take for a file."""

    def __init__(self, store: ObjectStore, name: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._store = store
        self._name = name
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set where the next read begins; behind the end there is nothing to read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            # As a file would; `zipfile` takes it for "no archive".
            raise OSError("a place before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read as much as fits; 0 at the end."""
        view = memoryview(buffer).cast("B")
        length = min(len(view), self.size_bytes - self._at)
        if length <= 0:
            return 0
        view[:length] = obstore.get_range(self._store, self._name, start=self._at, length=length)
        self._at += length
        return length

    def buffered(self) -> io.BufferedReader:
        """Return the blob with read-ahead, for many small reads."""
        return io.BufferedReader(self, READ_BYTES)


class _Counted:
    """Passes chunks on and learns what they come to."""

    def __init__(self, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._chunks, AsyncIterable):
            async for chunk in self._chunks:
                yield self._count(chunk)
        else:
            for chunk in self._chunks:
                yield self._count(chunk)

    def _count(self, chunk: bytes) -> bytes:
        self.size_bytes += len(chunk)
        self.sha256.update(chunk)
        return chunk


def _delete_unfinished(directory: Path, before_s: float) -> int:
    deleted = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # it was finished meanwhile, and bears its own name
            if _UNFINISHED.search(path.name) and path.lstat().st_mtime < before_s:
                path.unlink()
                deleted += 1
    return deleted


def _sync(path: Path) -> None:
    for each in (path, path.parent):
        fd = os.open(each, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
