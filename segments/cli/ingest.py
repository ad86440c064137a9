"""The commands of delivered files: `load`, `loader`."""

import asyncio
import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from redis.exceptions import RedisError

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import ledger_to_write, run
from segments.cli.progress import display
from segments.cli.status import report_lines
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.codes import code_of, description_of
from segments.doors.live_audience.metadata import MAX_METADATA_BYTES, read_metadata
from segments.files.blobs import Blobs
from segments.files.chunks import file_chunks
from segments.ledger.database.engine import open_ledger
from segments.ledger.processes import ProcessKind
from segments.loader.loader import Loader
from segments.loader.metrics import Metrics
from segments.model.job import Job, JobState
from segments.model.stop_reason import Stopped
from segments.projection.bucket_look import BucketLook
from segments.projection.causes import away_by
from segments.projection.ills import Ills
from segments.projection.ledger_guard import LedgerGuard
from segments.projection.one_ledger import before_making
from segments.runtime.admin_port import shown
from segments.runtime.spans import sending_spans
from segments.runtime.stopping import stopping_event
from segments.settings import Settings
from segments.store.embedded import opened
from segments.store.error_code import in_words
from segments.store.reader import StoreUnusable
from segments.upkeep.presence import present

DOOR = "command line"
_OTHER_THREADS = 8
_GIL_S = 0.0005
_GC_THRESHOLD = 50_000
"""New objects between collections: rows are gone by then; Python's 700 take as long again."""

_existing_file = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command()
@click.argument("file", type=_existing_file)
@click.option(
    "--metadata",
    "metadata_file",
    type=_existing_file,
    required=True,
    help="LiveAudience's JSON, which names the owner and the action.",
)
def load(file: Path, metadata_file: Path) -> None:
    """
    Load a FILE of hashed e-mail addresses into the store.

    FILE is a .txt, .csv, .gz or .zip file with a hash per line. If the command
    is killed, run it again: it continues where it stopped. The exit status is 1
    if the file was not loaded.
    """
    settings = control_settings()
    job = run(_load(settings, file, metadata_file))
    for line in report_lines(job):
        click.echo(line)
    sys.exit(0 if job.state is JobState.DONE else 1)


@click.command()
def loader() -> None:
    """Load delivered files into the store until stopped, each partner's in order."""
    settings = control_settings()
    run(_run_loader(settings), listens=True)


async def _load(settings: Settings, file: Path, metadata_file: Path) -> Job:
    stopping = stopping_event()
    async with ledger_to_write(settings) as ledger:
        blobs = Blobs.open(settings.blobs_at, settings.reserve_bytes)
        try:
            job = await accept(
                ledger,
                blobs,
                read_metadata(_head(metadata_file)),
                file_chunks(file),
                door=DOOR,
                file_name=file.name,
                now_s=time.time(),
            )
        except Stopped as stopped:
            raise click.ClickException(_refusal(stopped)) from None
        click.echo(f"job {job.id}, transaction {job.transaction_id}", err=True)
        try:
            async with (
                opened(settings.redis_url, settings.data_dir) as redis,
                # Spans alone: a loader's metrics have the state of the whole service, which would
                # end with this command.
                sending_spans(settings.telemetry("load")) as spans,
            ):
                loader = Loader(settings.loader_options, ledger, redis, blobs, spans=spans)
                await loader.catch_up()
                with display() as shown:
                    return await loader.carry(job, stopping, shown.show)
        except StoreUnusable:
            raise
        except Exception as error:
            away = away_by(error)
            if away is None:
                raise
            said = in_words(error) if isinstance(error, RedisError) else str(away)
            raise click.ClickException(
                f"{said}; job {job.id} waits for the loader, or for this command again"
            ) from None


async def _run_loader(settings: Settings) -> None:
    stopping, metrics = stopping_event(), Metrics()
    # Each file is read in its own thread; the other threads do short work.
    threads = ThreadPoolExecutor(settings.loader_jobs + _OTHER_THREADS)
    asyncio.get_running_loop().set_default_executor(threads)
    # By default, a parsing thread delays each step of another file by 5 ms.
    sys.setswitchinterval(_GIL_S)
    gc.set_threshold(_GC_THRESHOLD)
    async with (
        opened(settings.redis_url, settings.data_dir) as redis,
        open_ledger(settings.ledger_dsn, before_making(redis, settings.embedded_in)) as ledger,
    ):
        await LedgerGuard(ledger, redis).start()
        blobs = Blobs.open(settings.blobs_at, settings.reserve_bytes)
        telemetry = settings.telemetry("loader")
        async with sending_spans(telemetry) as spans:
            loader = Loader(
                settings.loader_options, ledger, redis, blobs, metrics=metrics, spans=spans
            )
            async with (
                shown(
                    "SEGMENTS_LOADER_PORT",
                    settings.loader_host,
                    settings.loader_port,
                    metrics.registry,
                    loader.reasons,
                    settings.admin_tls,
                    ills=Ills(
                        ledger,
                        blobs,
                        settings.data_dir,
                        settings.reserve_bytes,
                        embedded_in=settings.embedded_in,
                        bucket=BucketLook(blobs),
                    ),
                    telemetry=telemetry,
                ),
                present(ledger, ProcessKind.LOADER, loader.reasons),
            ):
                await loader.run(stopping)


def _head(file: Path) -> bytes:
    """Return a file's content, or enough to show that it is too large."""
    with file.open("rb") as opened_file:
        return opened_file.read(MAX_METADATA_BYTES + 1)


def _refusal(stopped: Stopped) -> str:
    reason = stopped.reason
    return f"error {code_of(reason)}: {description_of(reason)} ({stopped})"
