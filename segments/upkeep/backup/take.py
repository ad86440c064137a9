"""
Takes a backup of ledger, delivered files and host keys while everything runs.

    blobs  ->  ledger, in a snapshot  ->  blobs that the snapshot names  ->  manifest

Jobs' files are replaced by ids, and by scrubs, so a ledger needs the files of its moment. Blobs
never change and take long to copy: most are copied before the snapshot. If the snapshot names a
lost blob, another snapshot names its successor.

The ledger is never migrated, so a new release can back it up before an upgrade. Blobs of a bucket
may be referenced instead of copied: then the bucket must keep deleted versions as long as the
backup.

A broken-off backup has no manifest, and leaves earlier ones alone; its files are deleted after the
next whole backup. A place takes one backup at a time, in a directory by a lock.
"""

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.files.blobs import UPLOADS, Blobs
from segments.files.chunks import chunks_of, file_chunks, in_thread
from segments.files.disk import Disk
from segments.ledger import jobs
from segments.ledger.database import copying
from segments.ledger.database.engine import reading
from segments.ledger.privacy import access_requests
from segments.upkeep.backup import manifest as manifests
from segments.upkeep.backup.manifest import (
    BLOBS,
    FORM,
    KEYS,
    LEDGERS,
    File,
    Manifest,
    NoBackup,
    blob_path,
    key_path,
    ledger_path,
)

_log = logging.getLogger(__name__)

_SNAPSHOTS_AT_MOST: Final = 20
_LOCK: Final = ".lock"


class CannotBackUp(Exception):
    """The backup was not taken; the message has reason and remedy."""


class Source(NamedTuple):
    """The parts of a deployment that are backed up."""

    ledger: AsyncEngine
    ledger_url: str
    blobs: Blobs
    host_keys: Path  # the SFTP server's folder, which may be missing
    scratch: Path  # takes the ledger's copy on its way
    reserve_bytes: int | None


class Taken(NamedTuple):
    """A backup that was taken."""

    name: str
    manifest: Manifest
    copied: int  # files that no earlier backup of the place had
    copied_bytes: int
    deleted: int  # backups that were one too many


async def take(
    source: Source,
    place: Blobs,
    now_s: Callable[[], float],
    *,
    version: str,
    references: bool = False,
    keep: int | None = None,
) -> Taken:
    """
    Take a backup, and return it once it is whole.

    `references` names the blobs instead of copying them; `keep` is how many of the newest backups
    stay.

    Raises:
        CannotBackUp: Files vanish faster than they are copied, or the time went back.
        segments.ledger.database.copying.CannotCopy: The ledger can't be copied.
        OSError, obstore.exceptions.BaseError: The place or a source refuses.
    """
    at_work = _Backup(source, place, references=references)
    await at_work.know_earlier()
    async with reading(source.ledger) as conn:
        await at_work.take_blobs(await _blobs_named(conn))
    for _ in range(_SNAPSHOTS_AT_MOST):
        as_of_s = now_s()
        name = await _free_name(place, as_of_s)
        async with at_work.snapshot() as snapshot:
            uploads = set(await source.blobs.names(UPLOADS))
            await at_work.take_blobs(snapshot.blobs | uploads)
            if not snapshot.blobs <= at_work.blobs.keys():
                continue
            ledger = await at_work.put(ledger_path(name), in_thread(file_chunks(snapshot.file)))
        whole = Manifest(
            form=FORM,
            version=version,
            database=copying.database_of(source.ledger),
            revision=snapshot.revision,
            as_of_s=as_of_s,
            ledger=ledger,
            blobs_are="referenced" if references else "copied",
            blobs=at_work.blobs,
            host_keys=await at_work.take_host_keys(),
        )
        await manifests.write(place, name, whole)
        deleted = await _delete_what_no_backup_needs(place, keep)
        return Taken(name, whole, at_work.copied, at_work.copied_bytes, deleted)
    raise CannotBackUp("delivered files are replaced faster than they are copied; try again")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """
    Hold a directory of backups against a second backup.

    Raises:
        CannotBackUp: Another process holds it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CannotBackUp("another backup to this place is at work; wait for its end") from None
    finally:
        os.close(fd)


class _Snapshot(NamedTuple):
    file: Path
    revision: str
    blobs: set[str]  # that it names


class _Backup:
    def __init__(self, source: Source, place: Blobs, *, references: bool) -> None:
        self.blobs: dict[str, File] = {}
        self.copied = 0
        self.copied_bytes = 0
        self._source = source
        self._place = place
        self._references = references
        self._earlier: dict[str, File] = {}

    async def know_earlier(self) -> None:
        """Read which blobs the place has, by its newest backup."""
        *_, newest = ["", *await manifests.names_of(self._place)]
        if not newest or self._references:
            return
        with suppress(NoBackup):
            earlier = (await manifests.read(self._place, newest)).blobs
            held = await self._place.sizes(BLOBS)
            self._earlier = {
                name: file
                for name, file in earlier.items()
                if file.sha256 is not None and held.get(blob_path(name)) == file.size_bytes
            }

    async def take_blobs(self, names: set[str]) -> None:
        """Take in these blobs and no others, as far as they are there."""
        if self._references:
            sizes = await self._source.blobs.sizes()
            self.blobs = {name: File(sizes[name], None) for name in names if name in sizes}
            return
        self.blobs = {name: file for name, file in self.blobs.items() if name in names}
        for name in sorted(names - self.blobs.keys()):
            await self._take_blob(name)

    async def _take_blob(self, name: str) -> None:
        if name in self._earlier:
            self.blobs[name] = self._earlier[name]
            return
        try:
            chunks = in_thread(chunks_of(self._source.blobs.get(name)))
            self.blobs[name] = await self.put(blob_path(name), chunks)
        except Exception:
            # Replaced meanwhile: obstore changes the reader's error.
            if await self._source.blobs.find(name) is not None:
                raise

    async def put(self, path: str, chunks: AsyncIterator[bytes]) -> File:
        """Write a file into the place."""
        stored = await self._place.put(path, chunks)
        self.copied += 1
        self.copied_bytes += stored.size_bytes
        return File(stored.size_bytes, stored.sha256)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[_Snapshot]:
        """Yield a copy of the ledger, and the blobs that it names."""
        source = self._source
        source.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="backup-", dir=source.scratch) as folder:
            file = Path(folder, "ledger")
            async with reading(source.ledger) as conn:
                named = await _blobs_named(conn)
                disk = Disk(source.scratch, source.reserve_bytes)
                disk.check_room(await copying.size_bytes(conn))
                revision = await copying.revision_of(conn)
                await copying.copy_to(conn, source.ledger_url, file)
            yield _Snapshot(file, revision, named)

    async def take_host_keys(self) -> dict[str, File]:
        """Take in the SFTP server's keys: partners' clients remember them."""
        taken = {}
        for path in sorted(self._source.host_keys.glob("host_key*")):
            content = path.read_bytes()
            key = File(len(content), hashlib.sha256(content).hexdigest())
            await self._place.put(key_path(key), [content])
            taken[path.name] = key
        return taken


async def _blobs_named(conn: AsyncConnection) -> set[str]:
    return {*await jobs.every_blob(conn), *await access_requests.every_blob(conn)}


async def _free_name(place: Blobs, now_s: float) -> str:
    *_, newest = ["", *await manifests.names_of(place)]
    name = manifests.name_at(now_s)
    if name <= newest:
        raise CannotBackUp(f"the place has a backup of this second or a later one, {newest}")
    return name


async def _delete_what_no_backup_needs(place: Blobs, keep: int | None) -> int:
    names = await manifests.names_of(place)
    too_many = names[:-keep] if keep else []
    for name in too_many:
        await manifests.delete(place, name)
    needed: set[str] = set()
    for name in names[len(too_many) :]:
        try:
            needed |= (await manifests.read(place, name)).held(name).keys()
        except NoBackup as error:
            _log.warning("files that no backup needs stay: %s", error)
            return len(too_many)
    for folder in (LEDGERS, BLOBS, KEYS):
        for path in set(await place.names(folder)) - needed:
            await place.delete(path)
    return len(too_many)
