"""Shows the progress of a job on stderr: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from segments.model.job import Job, JobState, Report

_LINE_EVERY_S = 5.0


class Display(Protocol):
    """Shows each state of a job."""

    def show(self, job: Job) -> None:
        """Show a state, unless the previous was shown a moment ago."""


@contextmanager
def display() -> Iterator[Display]:
    """Yield the display that suits stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress)


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reading = progress.add_task("reading", total=None, said="")
        self._writing = progress.add_task("writing", total=None, said="", visible=False)

    def show(self, job: Job) -> None:
        report = job.report
        self._progress.update(
            self._reading,
            total=report.size_bytes or None,
            completed=report.read_bytes,
            said=_read(report),
        )
        if report.segments:
            self._progress.update(
                self._writing,
                total=report.valid,
                completed=report.written,
                said=_written(report),
                visible=True,
            )


class _Lines:
    def __init__(self) -> None:
        self._said_at_s = time.monotonic()

    def show(self, job: Job) -> None:
        now_s = time.monotonic()
        if job.state is not JobState.RUNNING or now_s - self._said_at_s < _LINE_EVERY_S:
            return
        self._said_at_s = now_s
        report = job.report
        click.echo(
            f"job {job.id}: {_written(report) if report.segments else _read(report)}", err=True
        )


def _read(report: Report) -> str:
    return f"{report.rows:,} rows read"


def _written(report: Report) -> str:
    return f"{report.written:,} of {report.valid:,} rows written"
