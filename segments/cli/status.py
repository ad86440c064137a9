"""The command `status`: the latest jobs, the partners' deliveries, one job; once or live."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.cli.ledger_access import look, look_again_and_again
from segments.cli.table import Table, print_table, table_lines, utc
from segments.doors.live_audience.codes import code_of, description_of
from segments.doors.live_audience.status import CARRIED_OUT, is_described, status_of
from segments.ledger import accounts, jobs
from segments.ledger.backlog import by_partner
from segments.model.explanation import bad_lines_by_reason
from segments.model.job import Job, JobState, Report
from segments.model.refusal import NotFound

LATEST = 20
_LOOK_EVERY_S: Final = 1.0
_ENDED: Final = (JobState.DONE, JobState.FAILED)


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
@click.option(
    "--watch",
    is_flag=True,
    help="Look every second until Ctrl-C, or until JOB has ended; on a terminal alone.",
)
def status(job: str | None, as_json: bool, partners: bool, watch: bool) -> None:
    """Show the state of a JOB (number or transaction id), or the latest jobs."""
    ask = _partners if partners else _latest
    if watch:
        _watch(job, ask, as_json=as_json)
    elif job is None or partners:
        print_table(*look(ask), as_json=as_json)
    else:
        _print_job(look(lambda conn: _job(conn, job)), as_json=as_json)


def _print_job(found: Job, *, as_json: bool) -> None:
    if as_json and not is_described(found):
        raise click.ClickException(
            f"job {found.id} came without a metadata file and has no .status"
        )
    if as_json:
        click.echo(status_of(found), nl=False)
        return
    for line in report_lines(found):
        click.echo(line)


def _watch(
    job: str | None, ask: Callable[[AsyncConnection], Awaitable[Table]], *, as_json: bool
) -> None:
    if as_json:
        raise click.UsageError("--watch and --json exclude each other")
    if not sys.stdout.isatty():
        raise click.UsageError(
            "--watch draws on a terminal, and standard output is none: call `status` again for"
            " another look, or scrape the loader's metrics"
        )

    async def lines(conn: AsyncConnection) -> tuple[list[str], bool]:
        if job is None:
            return table_lines(*await ask(conn)), False
        found = await _job(conn, job)
        return list(report_lines(found)), found.state in _ENDED

    live = Live(
        console=Console(),
        auto_refresh=False,
        vertical_overflow="crop",
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with live as drawn:

        def show(seen: tuple[list[str], bool]) -> bool:
            said, has_ended = seen
            drawn.update(Text("\n".join(said), no_wrap=True, overflow="crop"), refresh=True)
            return has_ended

        look_again_and_again(lines, show, every_s=_LOOK_EVERY_S)


async def _job(conn: AsyncConnection, asked: str) -> Job:
    found = await jobs.job(conn, asked)
    if found is None:
        raise NotFound(f"there is no job {asked}")
    return found


async def _latest(conn: AsyncConnection) -> Table:
    found, tree = await jobs.jobs(conn, LATEST), await accounts.tree(conn)
    return Table(
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
        [
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
        ],
    )


async def _partners(conn: AsyncConnection) -> Table:
    found, tree = await by_partner(conn), await accounts.tree(conn)
    return Table(
        ("partner", "last good delivery", "job", "waiting", "held", "failed"),
        [
            (
                tree.account(each.partner_id).public_id,
                utc(each.last_done_at_s),
                each.last_done_job,
                each.waiting,
                each.held,
                each.failed,
            )
            for each in found
        ],
    )


def report_lines(job: Job) -> Iterator[str]:
    """Yield the state of a job, in lines for people."""
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
