"""
Puts a backup back: ledger, delivered files, host keys. A rebuild makes the store from these.

    verify every file  ->  blobs  ->  host keys  ->  ledger

Nothing is changed before every file has its size and digest. The ledger comes last: a broken-off
restore leaves no usable ledger, and is repeated. A blob that is there with its digest is left
alone; others stay until the loader's daily sweep.
"""

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, NamedTuple

from segments.files.blobs import Blobs
from segments.files.chunks import chunks_of, in_thread
from segments.files.disk import Disk
from segments.ledger import job_leases
from segments.ledger.database import copying
from segments.upkeep.backup import manifest as manifests
from segments.upkeep.backup.manifest import (
    File,
    Manifest,
    NoBackup,
    blob_path,
    key_path,
    ledger_path,
)

_NAMED_AT_MOST: Final = 5


class CannotRestore(Exception):
    """The backup was not put back; the message has reason and remedy."""


class Target(NamedTuple):
    """The places that a backup is put back into."""

    ledger_url: str
    blobs: Blobs
    host_keys: Path
    scratch: Path
    reserve_bytes: int | None


async def restore(
    place: Blobs,
    name: str | None,
    target: Target,
    *,
    replaces: bool = False,
    skips_missing: bool = False,
    show: Callable[[str], None] = lambda _: None,
) -> tuple[str, Manifest]:
    """
    Put a backup back, the newest unless named, and return its name and manifest.

    `replaces` allows to replace existing ledger, blobs and host keys; `skips_missing` goes on
    without referenced blobs that are gone; `show` is called with each step.

    Raises:
        NoBackup: There is no such backup, or its manifest is damaged.
        CannotRestore: A file is missing or damaged, or the target is not empty.
        segments.ledger.database.copying.CannotCopy: As for `check_may_be_replaced`, `put_back`.
        OSError, obstore.exceptions.BaseError: The place or the target refuses.
    """
    *_, newest = ["", *await manifests.names_of(place)]
    name = name or newest
    if not name:
        raise NoBackup("there is no whole backup in this place")
    manifest = await manifests.read(place, name)
    await _check_target(manifest, target, replaces=replaces)
    show("verifying the backup")
    await _verify(place, name, manifest)
    if manifest.blobs_are == "referenced":
        await _check_referenced(manifest, target.blobs, skips_missing=skips_missing)
    else:
        show(f"{len(manifest.blobs):,} delivered files")
        await _put_blobs(place, manifest, target.blobs)
    await _put_host_keys(place, manifest, target.host_keys)
    show("the ledger")
    await _put_ledger(place, name, manifest, target)
    return name, manifest


async def _check_target(manifest: Manifest, target: Target, *, replaces: bool) -> None:
    if copying.is_of_later_version(manifest.revision):
        raise CannotRestore(
            f"the backup was taken by version {manifest.version}, which is later than this one:"
            " restore it with that version"
        )
    if manifest.database != copying.database_of_url(target.ledger_url):
        raise CannotRestore(
            f"the backup's ledger is of {manifest.database}, and SEGMENTS_LEDGER_URL is not"
        )
    await copying.check_may_be_replaced(target.ledger_url, replaces=replaces)
    if replaces:
        return
    if manifest.blobs_are == "copied" and await target.blobs.names():
        raise CannotRestore("there are delivered files already; --replace restores over them")
    if any(target.host_keys.glob("host_key*")):
        raise CannotRestore(
            f"there are SFTP host keys already, in {target.host_keys}; --replace replaces them"
        )


async def _verify(place: Blobs, name: str, manifest: Manifest) -> None:
    wrong = []
    for path, file in manifest.held(name).items():
        try:
            is_right = await _digest(place, path) == (file.size_bytes, file.sha256)
        except FileNotFoundError:
            is_right = False
        if not is_right:
            wrong.append(path)
    if wrong:
        raise CannotRestore(
            f"backup {name}: {len(wrong):,} of its files are missing or damaged, such as"
            f" {', '.join(wrong[:_NAMED_AT_MOST])}; nothing was changed. Restore another backup"
            " with --name"
        )


async def _check_referenced(manifest: Manifest, blobs: Blobs, *, skips_missing: bool) -> None:
    sizes = await blobs.sizes()
    gone = [n for n, file in manifest.blobs.items() if sizes.get(n) != file.size_bytes]
    if gone and not skips_missing:
        raise CannotRestore(
            f"{len(gone):,} delivered files that the backup references are gone, such as"
            f" {', '.join(gone[:_NAMED_AT_MOST])}; nothing was changed. Bring back their versions"
            " in the bucket, or go on without them by --skip-missing"
        )


async def _put_blobs(place: Blobs, manifest: Manifest, blobs: Blobs) -> None:
    there = await blobs.sizes()
    for name, file in manifest.blobs.items():
        if there.get(name) == file.size_bytes and (await _digest(blobs, name))[1] == file.sha256:
            continue
        stored = await blobs.put(name, _chunks(place, blob_path(name)))
        _check_same(stored.sha256, file, name)


async def _put_host_keys(place: Blobs, manifest: Manifest, folder: Path) -> None:
    for file_name, key in manifest.host_keys.items():
        if Path(file_name).name != file_name:
            raise CannotRestore(f"the manifest names a host key {file_name!r}, which is no name")
        content = b"".join([chunk async for chunk in _chunks(place, key_path(key))])
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = folder / f"{file_name}.restored"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.rename(folder / file_name)


async def _put_ledger(place: Blobs, name: str, manifest: Manifest, target: Target) -> None:
    target.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    Disk(target.scratch, target.reserve_bytes).check_room(manifest.ledger.size_bytes)
    with tempfile.TemporaryDirectory(prefix="restore-", dir=target.scratch) as folder:
        file = Path(folder, "ledger")
        _check_same(await _fetch(place, ledger_path(name), file), manifest.ledger, "the ledger")
        await copying.put_back(file, target.ledger_url)
    # The loaders of the lost ledger would keep their jobs, and a rebuild waiting, for a minute.
    async with copying.as_it_is(target.ledger_url) as ledger, ledger.begin() as conn:
        await job_leases.drop_all(conn)


async def _fetch(place: Blobs, path: str, to: Path) -> str:
    digest = hashlib.sha256()
    with to.open("wb") as copy:
        async for chunk in _chunks(place, path):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()


async def _digest(blobs: Blobs, name: str) -> tuple[int, str]:
    digest, size_bytes = hashlib.sha256(), 0
    async for chunk in _chunks(blobs, name):
        digest.update(chunk)
        size_bytes += len(chunk)
    return size_bytes, digest.hexdigest()


async def _chunks(blobs: Blobs, name: str) -> AsyncIterator[bytes]:
    async for chunk in in_thread(chunks_of(blobs.get(name))):
        yield chunk


def _check_same(sha256: str, file: File, name: str) -> None:
    if sha256 != file.sha256:
        raise CannotRestore(f"{name} changed since it was verified; restore again")
