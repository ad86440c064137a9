"""The commands of delivered files: `load`, `status`, `loader`."""

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
from redis.exceptions import RedisError

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import ledger_to_write, look, print_table, run
from segments.cli.log import log_to_stderr
from segments.cli.progress import display
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.codes import code_of, description_of
from segments.doors.live_audience.metadata import MAX_METADATA_BYTES, read_metadata
from segments.doors.live_audience.status import CARRIED_OUT, is_described, status_of
from segments.files.blobs import Blobs
from segments.files.chunks import file_chunks
from segments.ledger import jobs
from segments.ledger.database.engine import open_ledger
from segments.loader.loader import Loader
from segments.loader.metrics import Metrics
from segments.model.job import Job, JobState, Report
from segments.model.stop_reason import Stopped
from segments.projection.ledger_guard import LedgerGuard
from segments.projection.one_ledger import before_making
from segments.runtime.admin_port import shown
from segments.settings import Settings
from segments.store.embedded import opened
from segments.store.error_code import in_words

DOOR = "command line"
LATEST = 20

_existing_file = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command()
@click.argument("file", type=_existing_file)
@click.option(
    "--metadata",
    "metadata_file",
    type=_existing_file,
    required=True,
    help="Whose it is and what to do with it: LiveAudience's JSON.",
)
def load(file: Path, metadata_file: Path) -> None:
    """
    Carry a FILE of hashed e-mail addresses into the store.

    A .txt, .csv, .gz or .zip of one hash a line. Killed and called again, it
    goes on where it was. The exit status is 1 if the file was not loaded.
    """
    settings = control_settings()
    job = run(_load(settings, file, metadata_file))
    for line in _report(job):
        click.echo(line)
    sys.exit(0 if job.state is JobState.DONE else 1)


@click.command()
@click.argument("job", required=False)
@click.option("--json", "as_json", is_flag=True, help="JOB as the partner's .status file says it.")
def status(job: str | None, as_json: bool) -> None:
    """Say how far a JOB is (its number or transaction id), or the latest jobs."""
    if job is None:
        _list_latest()
        return
    found = look(lambda conn: jobs.job(conn, job))
    if found is None:
        raise click.ClickException(f"there is no job {job}")
    if as_json and not is_described(found):
        raise click.ClickException(f"job {job} came without a metadata file and has no .status")
    if as_json:
        click.echo(status_of(found), nl=False)
        return
    for line in _report(found):
        click.echo(line)


@click.command()
def loader() -> None:
    """Carry delivered files into the store, one after another, until stopped."""
    settings = control_settings()
    log_to_stderr()
    run(_run_loader(settings))


async def _load(settings: Settings, file: Path, metadata_file: Path) -> Job:
    stopping = stopping_event()
    async with ledger_to_write(settings) as ledger:
        blobs = Blobs.open(settings.blobs_at)
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
            async with opened(settings.redis_url, settings.data_dir) as redis:
                loader = Loader(settings.loader_options, ledger, redis, blobs)
                await loader.catch_up()
                with display() as shown:
                    return await loader.carry(job, stopping, shown.show)
        except RedisError as error:
            raise click.ClickException(
                f"{in_words(error)}; job {job.id} waits for the loader, or for this command again"
            ) from None


async def _run_loader(settings: Settings) -> None:
    stopping, metrics = stopping_event(), Metrics()
    async with (
        opened(settings.redis_url, settings.data_dir) as redis,
        open_ledger(settings.ledger_dsn, before_making(redis, settings.embedded_in)) as ledger,
    ):
        await LedgerGuard(ledger, redis).start()
        loader = Loader(
            settings.loader_options, ledger, redis, Blobs.open(settings.blobs_at), metrics=metrics
        )
        async with shown(
            "SEGMENTS_LOADER_PORT",
            settings.loader_host,
            settings.loader_port,
            metrics.registry,
            loader.reasons,
            settings.admin_tls,
        ):
            await loader.run(stopping)


def stopping_event() -> asyncio.Event:
    """Return an event that SIGTERM and Ctrl-C set; a job stops at its next checkpoint."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    return stopping


def _head(file: Path) -> bytes:
    """Return a file's content, or enough of it to see that it is too large."""
    with file.open("rb") as opened_file:
        return opened_file.read(MAX_METADATA_BYTES + 1)


def _list_latest() -> None:
    found = look(lambda conn: jobs.jobs(conn, LATEST))
    print_table(
        ("job", "transaction", "state", "valid", "written", "file", "error"),
        (
            (
                job.id,
                job.transaction_id,
                job.state.value,
                job.report.valid,
                job.report.written,
                job.file_name,
                job.report.held_because if job.state is JobState.HELD else job.error,
            )
            for job in found
        ),
    )


def _report(job: Job) -> Iterator[str]:
    report = job.report
    yield f"job {job.id}: {job.state.value}, transaction {job.transaction_id}"
    if job.stop is not None:
        yield f"  error {code_of(job.stop)}: {description_of(job.stop)} ({job.error})"
    if job.state is JobState.HELD:
        yield f"  held: {report.held_because}"
        yield f"  `rtb-segments release {job.id}` lets it go on, with --refuse it ends it"
    yield f"  file: {job.file_name}, {report.size_bytes:,} bytes, {report.hash_type or 'no hash'}"
    yield f"  rows: {report.rows:,}, of them {report.valid:,} valid and {report.bad:,} bad"
    yield f"  written: {report.written:,}, of them {report.duplicates:,} duplicates"
    for segment in report.segments:
        said = "rejected, not an integer" if segment.audience_id is None else CARRIED_OUT
        yield f"  segment {segment.segment_id}, {segment.action.value}: {said}"
    yield (
        f"  memberships: {report.added:,} added, {report.renewed:,} renewed,"
        f" {report.removed:,} removed, {report.unchanged:,} unchanged,"
        f" {report.refused:,} refused by an opt-out"
    )
    for number, reason in report.bad_lines:
        yield f"  line {number}: {reason.value}"
    if job.started_at_s is not None and job.finished_at_s is not None:
        took_s = max(job.finished_at_s - job.started_at_s, 1e-3)
        yield f"  took {took_s:.1f} s, {report.written / took_s:,.0f} rows/s"
    if job.state is JobState.RUNNING:
        yield f"  {_at_work(report)}"
    if job.state in (JobState.QUEUED, JobState.RUNNING):
        yield "  not finished: it goes on with the loader, or with the same `load` again"


def _at_work(report: Report) -> str:
    if report.remaining_s is None:
        share = report.read_bytes / max(report.size_bytes, 1)
        return f"reading: {share:.0%} of {report.size_bytes:,} bytes"
    return (
        f"writing: {report.written / max(report.valid, 1):.0%}, {report.rows_per_s:,.0f} rows/s,"
        f" {report.remaining_s:,.0f} s to go"
    )


def _refusal(stopped: Stopped) -> str:
    reason = stopped.reason
    return f"error {code_of(reason)}: {description_of(reason)} ({stopped})"
