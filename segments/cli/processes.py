"""The commands `up` and `serve`, which run until stopped."""

import asyncio
import os
import sys
from pathlib import Path

import click

from segments.runtime.log_lines import log_to_stderr
from segments.runtime.supervision import CannotRun


@click.command()
def up() -> None:
    """Run all processes on this host: store, loader, doors, bid listener."""
    # `serve` needs neither SQLAlchemy nor the control plane's settings.
    from segments.cli.control_settings import control_settings  # noqa: PLC0415
    from segments.ledger.database.errors import LedgerUnusable  # noqa: PLC0415
    from segments.processes.up import PROGRAMS_IMPORT  # noqa: PLC0415
    from segments.processes.up import up as run_all  # noqa: PLC0415
    from segments.runtime.fork_server import ForkServer  # noqa: PLC0415
    from segments.store.reader import StoreUnusable  # noqa: PLC0415

    settings = control_settings()
    fork_server = ForkServer(PROGRAMS_IMPORT)
    try:
        asyncio.run(run_all(settings, fork_server))
    except (CannotRun, StoreUnusable, LedgerUnusable) as error:
        raise click.ClickException(str(error)) from None


@click.command()
@click.option(
    "--workers", type=click.IntRange(min=1), help="Number of worker processes; default RTB_WORKERS."
)
@click.option("--follow", "url", help="URL of a publication to follow; default RTB_FOLLOW.")
def serve(workers: int | None, url: str | None) -> None:
    """
    Run only the bid listener, which answers bid requests.

    With --follow, it answers from a store of its own, kept up to date from what `publish` writes.
    """
    # No import: the control plane must not know the data plane.
    options = [] if workers is None else [f"--workers={workers}"]
    if url is not None:
        os.environ["RTB_FOLLOW"] = url
    # A bid listener that follows nothing does not wait for these imports.
    if os.environ.get("RTB_FOLLOW") or Path(".env").exists():
        _follow(options)
    os.execv(sys.executable, [sys.executable, "-m", "rtb", *options])  # noqa: S606 - our own program


def _follow(options: list[str]) -> None:
    """Follow a publication, if set; then the process ends."""
    from segments.files.published_place import PlaceUnusable  # noqa: PLC0415
    from segments.processes.follow import PROGRAMS_IMPORT, follow  # noqa: PLC0415
    from segments.runtime.follow_settings import FollowSettings  # noqa: PLC0415
    from segments.runtime.fork_server import ForkServer  # noqa: PLC0415
    from segments.runtime.settings_reader import read_settings  # noqa: PLC0415
    from segments.store.reader import StoreUnusable  # noqa: PLC0415

    settings = read_settings(FollowSettings)
    if settings.follow is None:
        return
    fork_server = ForkServer(PROGRAMS_IMPORT, becomes_program=True)
    log_to_stderr(settings.log_level, settings.log_format, "follower")
    try:
        asyncio.run(follow(settings, options, fork_server))
    except PlaceUnusable as error:
        raise click.ClickException(f"--follow: {error}") from None
    except ValueError as error:
        raise click.ClickException(f"RTB_FOLLOW_KEYS: {error}") from None
    except (CannotRun, StoreUnusable) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0)
