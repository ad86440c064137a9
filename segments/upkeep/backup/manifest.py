"""
The manifest of a backup: its files with sizes and digests, and its moment.

Written last: without it there is no backup. Several backups share a place, and each blob, as blobs
never change.

    backups/NAME.json           the manifest; NAME is its moment, 20261130T120000Z
    backup-ledgers/NAME         the ledger: SQLite's file, or pg_dump's custom format
    backup-keys/DIGEST          a host key of the SFTP server, by its content
    backup-blobs/BLOB           a blob, below its name in the ledger

These folders, whose unneeded files are deleted, share no name with our other directories.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from segments.files.blobs import Blobs
from segments.files.chunks import chunks_of, in_thread

FORM: Final = 1
"""Raised when an older `restore` would misread."""

BLOBS: Final = "backup-blobs"
LEDGERS: Final = "backup-ledgers"
KEYS: Final = "backup-keys"

_FOLDER: Final = "backups"
_SUFFIX: Final = ".json"


class NoBackup(Exception):
    """The place has no such backup, or can't read it; the message says which."""


class File(msgspec.Struct, frozen=True):
    """A file of a backup."""

    size_bytes: int
    sha256: str | None
    """`None` for a blob that is only referenced."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a backup."""

    form: int
    version: str
    """The software's version that took it."""

    database: Literal["sqlite", "postgresql"]
    revision: str
    """Of the ledger's tables."""

    as_of_s: float
    """The backup has all that was acknowledged until then."""

    ledger: File
    blobs_are: Literal["copied", "referenced"]
    blobs: Mapping[str, File]
    """By their names in the ledger."""

    host_keys: Mapping[str, File]
    """By file name in the SFTP server's folder."""

    def held(self, name: str) -> dict[str, File]:
        """Return the place's files of this backup, by its name."""
        blobs = {} if self.blobs_are == "referenced" else self.blobs
        return {
            ledger_path(name): self.ledger,
            **{blob_path(blob): file for blob, file in blobs.items()},
            **{key_path(file): file for file in self.host_keys.values()},
        }


def name_at(now_s: float) -> str:
    """Return the name of a backup of a moment."""
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def path_of(name: str) -> str:
    """Return the place's name of a manifest."""
    return f"{_FOLDER}/{name}{_SUFFIX}"


def ledger_path(name: str) -> str:
    """Return the place's name of a backup's ledger."""
    return f"{LEDGERS}/{name}"


def blob_path(blob: str) -> str:
    """Return the place's name of a blob."""
    return f"{BLOBS}/{blob}"


def key_path(key: File) -> str:
    """Return the place's name of a host key."""
    return f"{KEYS}/{key.sha256}"


async def names_of(place: Blobs) -> list[str]:
    """Return the names of all whole backups, oldest first."""
    found = [name.removeprefix(f"{_FOLDER}/") for name in await place.names(_FOLDER)]
    return sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))


async def write(place: Blobs, name: str, manifest: Manifest) -> None:
    """Write a manifest, whole; from then on its backup exists."""
    await place.put(path_of(name), [msgspec.json.format(msgspec.json.encode(manifest))])


async def delete(place: Blobs, name: str) -> None:
    """Delete a manifest, and with it its backup."""
    await place.delete(path_of(name))


async def read(place: Blobs, name: str) -> Manifest:
    """
    Read a manifest.

    Raises:
        NoBackup: There is none of that name, or it can't be read.
    """
    try:
        file = place.get(path_of(name))
        content = b"".join([chunk async for chunk in in_thread(chunks_of(file))])
    except FileNotFoundError:
        raise NoBackup(f"there is no backup {name}") from None
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError:
        raise NoBackup(f"the manifest of backup {name} is damaged; take another backup") from None
    if manifest.form != FORM:
        raise NoBackup(
            f"backup {name} was taken by version {manifest.version} in a form that this version"
            " does not read"
        )
    return manifest
