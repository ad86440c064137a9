"""
All blobs of a local directory or a bucket.

A blob is written once, whole or not at all, under a name of ours; a partner's file name is never
part of a path. Files of any size take a few MiB of memory.

Reads block (see `segments.files.blob`); other requests are awaited.

A refusal by a local disk is an `OSError` with its number (`segments.runtime.causes`), which obstore
has only in a message, with the path. A lost directory is not created again: its disk may come back
and hide newer files.
"""

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

import obstore
from obstore.store import GCSStore, LocalStore, ObjectStore, S3Store, from_url

from segments.files.blob import Blob
from segments.files.disk import Disk
from segments.files.obstore_errors import Right, as_os_errors
from segments.runtime.causes import DirectoryGone

DELIVERIES = "deliveries"
"""The prefix of all files that jobs name."""

UPLOADS = "uploads"
"""The prefix for uploads by a bucket's signed URLs, until taken."""

_GIVE_UP_AFTER = timedelta(seconds=20)
"""No request to a bucket is retried after this; attempts have 30 s."""

_PART_BYTES = 5 << 20  # the least part that S3 accepts
_PARTS_AT_ONCE = 4
_UNFINISHED = re.compile(r"#\d+$")
"""obstore's names for unfinished local files; its listings omit these."""

_MARKER = ".rtb-segments"
"""Marks a local directory as ours, unlike an empty mount point."""


def delivery_name(partner_id: int) -> str:
    """Make up a name for a blob of a partner's job."""
    return f"{DELIVERIES}/{partner_id}/{secrets.token_hex(16)}"


class Stored(NamedTuple):
    """A written blob's size and digest, which identify repeated content."""

    size_bytes: int
    sha256: str


class Found(NamedTuple):
    """A blob's metadata in a bucket; equal content has an equal tag, if any."""

    size_bytes: int
    e_tag: str


def _bucket(url: str) -> ObjectStore:
    # obstore's default retries for minutes while an operator waits. Client options would override
    # the environment's (AWS_ALLOW_HTTP).
    return from_url(url, retry_config={"max_retries": 3, "retry_timeout": _GIVE_UP_AFTER})


class Blobs:
    """The blobs of a directory or bucket."""

    def __init__(
        self, store: ObjectStore, directory: Path | None = None, reserve_bytes: int | None = None
    ) -> None:
        self._store = store
        self._directory = directory
        self._disk = None if directory is None else Disk(directory, reserve_bytes)

    @classmethod
    def open(cls, at: str | Path, reserve_bytes: int | None = None) -> Self:
        """
        Open the blobs at a URL, or in a local directory, created if missing.

        `reserve_bytes` stay free on the directory's disk: see `Disk`.
        """
        return cls(_bucket(at)) if isinstance(at, str) else cls.in_directory(at, reserve_bytes)

    @classmethod
    def in_directory(cls, directory: Path, reserve_bytes: int | None = None) -> Self:
        """Keep blobs below a local directory that only we may enter."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):  # an unmarked directory accepts no blobs
            (directory / _MARKER).touch(mode=0o600)
        return cls(LocalStore(directory), directory, reserve_bytes)

    @classmethod
    def looked_at(cls, at: str | Path, reserve_bytes: int | None = None) -> Self:
        """Open blobs for inspection, without changing a local directory."""
        if isinstance(at, str):
            return cls(_bucket(at))
        return cls(LocalStore(at) if at.is_dir() else LocalStore(), at, reserve_bytes)

    async def check_answers(self) -> None:
        """
        Check that the blobs can be listed, and one of them, if any, be read.

        Raises:
            obstore.exceptions.BaseError: The bucket does not answer, or refuses.
            OSError: The directory can't be read.
        """
        first = None
        with as_os_errors(Right.LIST):
            async for found in obstore.list(self._store, DELIVERIES, chunk_size=1):
                first = found[0]["path"]
                break
        if first is not None:
            with suppress(FileNotFoundError), as_os_errors(Right.READ):  # deleted meanwhile
                await obstore.head_async(self._store, first)

    def check_room(self, more_bytes: int = 0) -> None:
        """
        Check that there is room for a file, of `more_bytes` if known.

        Raises:
            segments.runtime.causes.NoRoom: The file would use the reserve.
        """
        if self._disk is not None:
            self._disk.check_room(more_bytes)

    def check_there(self) -> None:
        """
        Check that a local directory exists, and that its disk is mounted.

        Raises:
            segments.runtime.causes.DirectoryGone: The check fails.
        """
        if self._directory is not None and not (self._directory / _MARKER).exists():
            raise DirectoryGone

    async def put(self, name: str, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> Stored:
        """
        Stream a blob; if the chunks end in an exception, nothing is written.

        On return a local blob is on disk: its job is about to be acknowledged.

        Raises:
            segments.runtime.causes.NoRoom: The blob would use the disk's reserve.
            OSError: The disk or the directory refuses.
            obstore.exceptions.BaseError: The bucket refuses.
        """
        self.check_there()
        self.check_room()
        counted = _Counted(chunks, self.check_room)
        with as_os_errors(Right.WRITE):
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

    def get(self, name: str) -> Blob:
        """
        Open a blob for reading in a worker thread.

        Raises:
            FileNotFoundError: There is no blob of that name.
            OSError: The disk or the directory can't be read.
        """
        try:
            with as_os_errors(Right.READ):
                return Blob(self._store, name, obstore.head(self._store, name)["size"])
        except FileNotFoundError:
            self.check_there()
            raise

    async def delete(self, name: str) -> None:
        """Delete a blob, if it exists."""
        try:
            with as_os_errors(Right.DELETE):
                await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            self.check_there()

    async def names(self, prefix: str = "") -> list[str]:
        """List the names of all blobs under a prefix of whole path segments, sorted."""
        listing = obstore.list(self._store, prefix or None)
        with as_os_errors(Right.LIST):
            found = [entry["path"] async for entries in listing for entry in entries]
        return sorted(name for name in found if name != _MARKER)

    async def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return each blob's size in bytes by name, under a prefix of whole path segments."""
        listing = obstore.list(self._store, prefix or None)
        with as_os_errors(Right.LIST):
            found = {entry["path"]: entry["size"] async for entries in listing for entry in entries}
        return {name: size for name, size in found.items() if name != _MARKER}

    async def names_before(self, prefix: str, at_s: float) -> list[str]:
        """List the names of the blobs under a prefix that were written before a time."""
        before = datetime.fromtimestamp(at_s, UTC)
        listing = obstore.list(self._store, prefix)
        with as_os_errors(Right.LIST):
            return [
                entry["path"]
                async for entries in listing
                for entry in entries
                if entry["last_modified"] < before
            ]

    async def delete_unfinished(self, before_s: float) -> int:
        """
        Delete remains of broken writes in a local directory, untouched since; return their number.

        A bucket needs a lifecycle rule for broken multipart uploads
        (S3: `AbortIncompleteMultipartUpload`).
        """
        if self._directory is None:
            return 0
        return await asyncio.to_thread(_delete_unfinished, self._directory, before_s)

    @property
    def is_bucket(self) -> bool:
        """Whether another server has the blobs."""
        return self._directory is None

    @property
    def takes_uploads(self) -> bool:
        """Whether the bucket signs URLs that accept a plain PUT."""
        return isinstance(self._store, S3Store | GCSStore)

    async def upload_url(self, name: str, expires_in_s: int) -> str:
        """Return a signed URL for uploading a blob; see `takes_uploads`."""
        assert isinstance(self._store, S3Store | GCSStore), "asked of a bucket that takes uploads"
        return await obstore.sign_async(self._store, "PUT", name, timedelta(seconds=expires_in_s))

    async def download_url(self, name: str, expires_in_s: int) -> str:
        """Return a signed URL for downloading a blob; see `takes_uploads`."""
        assert isinstance(self._store, S3Store | GCSStore), "asked of a bucket that signs URLs"
        return await obstore.sign_async(self._store, "GET", name, timedelta(seconds=expires_in_s))

    async def find(self, name: str) -> Found | None:
        """Return a blob's metadata, if it exists."""
        try:
            with as_os_errors(Right.READ):
                meta = await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return None
        return Found(meta["size"], meta["e_tag"] or "")

    async def copy(self, name: str, to: str) -> None:
        """
        Copy a blob's current content within the bucket.

        Raises:
            FileNotFoundError: There is no such blob.
        """
        with as_os_errors(Right.COPY):
            await obstore.copy_async(self._store, name, to)


class _Counted:
    """Passes chunks on; measures total size and digest."""

    def __init__(
        self, chunks: Iterable[bytes] | AsyncIterable[bytes], check_room: Callable[[int], None]
    ) -> None:
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()
        self._chunks = chunks
        self._check_room = check_room

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._chunks, AsyncIterable):
            async for chunk in self._chunks:
                yield self._count(chunk)
        else:
            for chunk in self._chunks:
                yield self._count(chunk)

    def _count(self, chunk: bytes) -> bytes:
        self._check_room(len(chunk))
        self.size_bytes += len(chunk)
        self.sha256.update(chunk)
        return chunk


def _delete_unfinished(directory: Path, before_s: float) -> int:
    deleted = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # finished meanwhile, and renamed
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
