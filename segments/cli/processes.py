"""The commands that run for long: `up` and `serve`."""

import asyncio
import os
import sys

import click

from segments.cli.control_settings import control_settings
from segments.cli.log import log_to_stderr
from segments.runtime.supervision import CannotRun


@click.command()
def up() -> None:
    """Run everything on this host: store, loader, doors, bid listener."""
    from segments.ledger.database.errors import LedgerUnusable  # noqa: PLC0415
    from segments.processes.up import up as run_all  # noqa: PLC0415
    from segments.store.reader import StoreUnusable  # noqa: PLC0415 - `serve` needs no SQLAlchemy

    settings = control_settings()
    log_to_stderr()
    try:
        asyncio.run(run_all(settings))
    except (CannotRun, StoreUnusable, LedgerUnusable) as error:
        raise click.ClickException(str(error)) from None


@click.command()
@click.option("--workers", type=click.IntRange(min=1), help="Processes; default RTB_WORKERS.")
def serve(workers: int | None) -> None:
    """Answer bid requests: the bid listener alone."""
    # Not an import: the control plane knows nothing of the data plane.
    options = [] if workers is None else [f"--workers={workers}"]
    os.execv(sys.executable, [sys.executable, "-m", "rtb", *options])  # noqa: S606 - our own program
