import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import run
from segments.cli.table import utc
from segments.files.blobs import Blobs
from segments.ledger.database.copying import as_it_is
from segments.settings import Settings
from segments.upkeep.backup.manifest import Manifest, NoBackup
from segments.upkeep.backup.restore import CannotRestore, Target
from segments.upkeep.backup.restore import restore as put_back
from segments.upkeep.backup.take import CannotBackUp, Source, Taken, alone, take

_PRIVATE_UMASK = 0o077


@click.command()
@click.argument("place", metavar="DIR|URL")
@click.option(
    "--reference-blobs",
    is_flag=True,
    help="Only name the delivered files, of a bucket that keeps deleted versions.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Delete all but NUMBER of the newest backups afterwards.",
)
def backup(place: str, *, reference_blobs: bool, keep: int | None) -> None:
    """
    Back up ledger, delivered files and SFTP host keys into DIR or a bucket's URL.

    Everything may run meanwhile. Files that an earlier backup in this place has are not copied
    again. If the command is killed, earlier backups stay whole.

    A backup holds persons' ids, signing keys, salts and password hashes: it is readable by its
    owner alone (modes 0700 and 0600), and a bucket needs the same care. The store is not backed
    up, because `rebuild` makes it anew, nor are settings, TLS keys and the key of publications.
    """
    settings = control_settings()
    taken = run(_backup(settings, place, reference_blobs, keep))
    manifest = taken.manifest
    click.echo(
        f"backup {taken.name}: the ledger as of {utc(manifest.as_of_s)} and"
        f" {len(manifest.blobs):,} delivered files {manifest.blobs_are};"
        f" {taken.copied:,} files ({taken.copied_bytes:,} bytes) are new in this place"
    )
    if taken.deleted:
        click.echo(f"{taken.deleted:,} older backups deleted")


@click.command()
@click.argument("place", metavar="DIR|URL")
@click.option("--name", help="Name of the backup; default: the newest.")
@click.option("--replace", is_flag=True, help="Replace the ledger and files that are there.")
@click.option("--skip-missing", is_flag=True, help="Go on without referenced files that are gone.")
def restore(place: str, *, name: str | None, replace: bool, skip_missing: bool) -> None:
    """
    Put a backup back: ledger, delivered files and SFTP host keys.

    Stop all processes first. Every file is verified before anything is changed. The command says
    what to run next.
    """
    settings = control_settings()
    name, manifest = run(_restore(settings, place, name, replace, skip_missing))
    click.echo(
        f"restored backup {name}: the ledger as of {utc(manifest.as_of_s)},"
        f" {len(manifest.blobs):,} delivered files {manifest.blobs_are}"
    )
    click.echo(
        "Next, before any other process is started:\n"
        "  the store still exists:   rtb-segments reconcile   (takes over opt-outs since then)\n"
        "  the store is lost or old: rtb-segments rebuild\n"
        "Opt-outs since the backup are only in that store: submit them again if it is lost"
    )


async def _backup(settings: Settings, place: str, reference_blobs: bool, keep: int | None) -> Taken:
    with _words():
        async with (
            _opened(settings, place, writes=True) as kept,
            as_it_is(settings.ledger_dsn) as ledger,
        ):
            source = Source(
                ledger,
                settings.ledger_dsn,
                Blobs.looked_at(settings.blobs_at),
                settings.sftp_options.key_dir,
                settings.spool_dir,
                settings.reserve_bytes,
            )
            return await take(
                source,
                kept,
                time.time,
                version=version("rtb-segments"),
                references=reference_blobs,
                keep=keep,
            )


async def _restore(
    settings: Settings, place: str, name: str | None, replace: bool, skip_missing: bool
) -> tuple[str, Manifest]:
    with _words():
        async with _opened(settings, place, writes=False) as kept:
            target = Target(
                settings.ledger_dsn,
                Blobs.open(settings.blobs_at, settings.reserve_bytes),
                settings.sftp_options.key_dir,
                settings.spool_dir,
                settings.reserve_bytes,
            )
            return await put_back(
                kept,
                name,
                target,
                replaces=replace,
                skips_missing=skip_missing,
                show=lambda step: click.echo(step, err=True),
            )


@asynccontextmanager
async def _opened(settings: Settings, place: str, *, writes: bool) -> AsyncIterator[Blobs]:
    at = _directory_of(place) or place
    if isinstance(at, str):
        yield Blobs.open(at)
        return
    if at.resolve().is_relative_to(settings.data_dir.resolve()):
        raise click.ClickException(
            f"{at} is inside SEGMENTS_DATA_DIR, and would be lost with it: choose another disk"
        )
    if not writes:
        if not at.is_dir():
            raise click.ClickException(f"there is no directory {at}")
        yield Blobs.looked_at(at)
        return
    before = os.umask(_PRIVATE_UMASK)
    try:
        with alone(at):
            yield Blobs.in_directory(at, settings.reserve_bytes)
    finally:
        os.umask(before)


def _directory_of(place: str) -> Path | None:
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in place else Path(place)


@contextmanager
def _words() -> Iterator[None]:
    try:
        yield
    except (CannotBackUp, CannotRestore, NoBackup) as error:
        raise click.ClickException(str(error)) from None
