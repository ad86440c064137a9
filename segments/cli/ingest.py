"""The commands of delivered files: `load`, `status`, `loader`."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import ledger_to_write, look, run
from segments.cli.progress import display
from segments.cli.table import print_table, utc
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.codes import code_of, description_of
from segments.doors.live_audience.metadata import MAX_METADATA_BYTES, read_metadata
from segments.doors.live_audience.status import CARRIED_OUT, is_described, status_of
from segments.files.blobs import Blobs
from segments.files.chunks import file_chunks
from segments.ledger import accounts, jobs
from segments.ledger.backlog import PartnerDeliveries, by_partner
from segments.ledger.database.engine import open_ledger
from segments.ledger.processes import ProcessKind
from segments.loader.loader import Loader
from segments.loader.metrics import Metrics
from segments.model.account import AccountTree
from segments.model.explanation import bad_lines_by_reason
from segments.model.job import Job, JobState, Report
from segments.model.stop_reason import Stopped
from segments.projection.causes import away_by
from segments.projection.ills import Ills
from segments.projection.ledger_guard import LedgerGuard
from segments.projection.one_ledger import before_making
from segments.runtime.admin_port import shown
from segments.runtime.log_lines import log_to_stderr
from segments.runtime.spans import sending_spans
from segments.runtime.stopping import stopping_event
from segments.settings import Settings
from segments.store.embedded import opened
from segments.store.error_code import in_words
from segments.store.reader import StoreUnusable
from segments.upkeep.presence import present

DOOR = "command line"
LATEST = 20
_OTHER_THREADS = 8
_GIL_S = 0.0005

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
    for line in _report(job):
        click.echo(line)
    sys.exit(0 if job.state is JobState.DONE else 1)


@click.command()
@click.argument("job", required=False)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JOB in the form of the partner's .status file; lists as JSON.",
)
@click.option(
    "--partners", is_flag=True, help="List the partners with their last good delivery instead."
)
def status(job: str | None, as_json: bool, partners: bool) -> None:
    """Show the state of a JOB (number or transaction id), or the latest jobs."""
    if partners:
        _list_partners(as_json=as_json)
        return
    if job is None:
        _list_latest(as_json=as_json)
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
    """Load delivered files into the store until stopped, each partner's in order."""
    settings = control_settings()
    log_to_stderr(settings.log_level, settings.log_format, "loader")
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
                # Spans alone: every loader's metrics have the state of the whole service, which
                # would end with this command, and its job is in `segments_ledger_jobs`.
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
    # By default, a thread that parses a file delays each step of another file by 5 ms.
    sys.setswitchinterval(_GIL_S)
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
                    ),
                    telemetry=telemetry,
                ),
                present(ledger, ProcessKind.LOADER, loader.reasons),
            ):
                await loader.run(stopping)


def _head(file: Path) -> bytes:
    """Return a file's content, or enough of it to show that it is too large."""
    with file.open("rb") as opened_file:
        return opened_file.read(MAX_METADATA_BYTES + 1)


def _list_latest(*, as_json: bool) -> None:
    async def ask(conn: AsyncConnection) -> tuple[Sequence[Job], AccountTree]:
        return await jobs.jobs(conn, LATEST), await accounts.tree(conn)

    found, tree = look(ask)
    print_table(
        (
            "job",
            "transaction",
            "state",
            "valid",
            "written",
            "file",
            "error",
            "partner",
            "received",
            "finished",
        ),
        (
            (
                job.id,
                job.transaction_id,
                job.state.value,
                job.report.valid,
                job.report.written,
                job.file_name,
                job.report.held_because if job.state is JobState.HELD else job.error,
                tree.account(job.partner_id).public_id,
                utc(job.created_at_s),
                utc(job.finished_at_s),
            )
            for job in found
        ),
        as_json=as_json,
    )


def _list_partners(*, as_json: bool) -> None:
    async def ask(conn: AsyncConnection) -> tuple[Sequence[PartnerDeliveries], AccountTree]:
        return await by_partner(conn), await accounts.tree(conn)

    found, tree = look(ask)
    print_table(
        ("partner", "last good delivery", "job", "waiting", "held", "failed"),
        (
            (
                tree.account(each.partner_id).public_id,
                utc(each.last_done_at_s),
                each.last_done_job,
                each.waiting,
                each.held,
                each.failed,
            )
            for each in found
        ),
        as_json=as_json,
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
    yield from _bad_lines(report)
    if job.started_at_s is not None and job.finished_at_s is not None:
        took_s = max(job.finished_at_s - job.started_at_s, 1e-3)
        yield f"  took {took_s:.1f} s, {report.written / took_s:,.0f} rows/s"
    if job.state is JobState.RUNNING:
        yield f"  {_at_work(report)}"
    if job.state in (JobState.QUEUED, JobState.RUNNING):
        yield "  not finished: it goes on with the loader, or with the same `load` again"


def _bad_lines(report: Report) -> Iterator[str]:
    for reason, numbers in bad_lines_by_reason(report).items():
        # A report of an older version has the lines alone.
        count = report.bad_by_reason.get(reason, len(numbers))
        first = ", ".join(map(str, numbers))
        more = ", ..." if count > len(numbers) else ""
        lines = "line" if count == 1 else "lines"
        yield f"  {reason.value}: {count:,} {lines}: {first}{more}"


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
