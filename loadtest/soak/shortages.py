"""
Shortages during a soak: the ledger's lock, its files, the disk.

Only a full disk may change an answer. Opt-outs and files wait, or are refused and sent again;
nothing acknowledged is lost.
"""

import asyncio
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from loadtest.soak.scene import Misbehaved, Scene, until_mended
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.model.identity import ID_BYTES, Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.causes import away_by
from segments.projection.in_force import Receipt, until_applied
from segments.projection.opt_outs import record_opt_out

FULL_DISK: Final = "disk full"
"""The fault that needs its own disk (`Plan.disk`)."""

_SHORT_FOR_S = 2.0
_SAY_EVERY_S = 0.2
_LOCKED_WITHIN_S = 30.0
_IN_FORCE_WITHIN_S = 30.0
_LEAST_FILL_BYTES = 4096


async def lock_ledger(scene: Scene) -> None:
    """Hold the ledger's write lock: an opt-out waits for it, and is in force when acknowledged."""
    with _locked(_ledger_file(scene)):
        saying = asyncio.create_task(_acknowledged_no(scene))
        await asyncio.sleep(_SHORT_FOR_S)
        if saying.done():
            raise Misbehaved("an opt-out was acknowledged that the ledger could not hold")
    await saying
    await until_mended(scene)


async def take_files_away(scene: Scene) -> None:
    """Move the directory of delivered files away: bids are unaffected."""
    blobs = Path(scene.service.settings.blobs_at)
    aside = blobs.with_name("blobs-aside")
    blobs.rename(aside)
    try:
        await asyncio.sleep(_SHORT_FOR_S)
    finally:
        # A delivery may have recreated the directory meanwhile.
        for made in blobs.rglob("*") if blobs.exists() else ():
            if made.is_file():
                place = aside / made.relative_to(blobs)
                place.parent.mkdir(parents=True, exist_ok=True)
                made.rename(place)
        if blobs.exists():
            for made in sorted(blobs.rglob("*"), reverse=True):
                made.rmdir()
            blobs.rmdir()
        aside.rename(blobs)
    await until_mended(scene)


async def fill_disk(scene: Scene) -> None:
    """Fill the disk to the last byte: senders repeat refused opt-outs and files."""
    scene.shared.breaks()  # a store that can't append to its log refuses the loaders' beats
    fill = scene.service.settings.data_dir / "fill"
    try:
        _fill(fill)
        give_up_at_s = time.monotonic() + _SHORT_FOR_S
        while time.monotonic() < give_up_at_s:
            try:
                await _say_no(scene)
            except LEDGER_FAILURES as error:
                if away_by(error) is None:
                    raise
                scene.waves.refused += 1
            await asyncio.sleep(_SAY_EVERY_S)
    finally:
        fill.unlink(missing_ok=True)
    await _acknowledged_no(scene)
    await until_mended(scene)


async def _acknowledged_no(scene: Scene) -> None:
    receipt = await _say_no(scene)
    if not await until_applied(scene.ledger, receipt.transaction_ids, _IN_FORCE_WITHIN_S):
        raise Misbehaved("an opt-out is not in force, though nothing is short any more")


async def _say_no(scene: Scene) -> Receipt:
    nobody = [(IdentifierKind.EMAIL, Id(os.urandom(ID_BYTES)))]
    return await record_opt_out(scene.ledger, scene.redis, OptOutAction.RESTRICT, nobody)


@contextmanager
def _locked(ledger: Path) -> Iterator[None]:
    connection = sqlite3.connect(ledger, isolation_level=None, timeout=_LOCKED_WITHIN_S)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def _ledger_file(scene: Scene) -> Path:
    return Path(str(make_url(scene.service.settings.ledger_dsn).database))


def _fill(path: Path) -> None:
    with path.open("wb") as file:
        step = 64 << 20
        offset = 0
        while step >= _LEAST_FILL_BYTES:
            try:
                os.posix_fallocate(file.fileno(), offset, step)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
            else:
                offset += step
