import click

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import run
from segments.console.options import UnsafeConsole
from segments.processes.console import run as run_console
from segments.runtime.stopping import stopping_event
from segments.settings import Settings


@click.command()
def console() -> None:
    """Serve the console: pages for partners, operators and privacy desks."""
    settings = control_settings()
    try:
        run(_serve(settings), listens=True)
    except UnsafeConsole as error:
        raise click.ClickException(str(error)) from None


async def _serve(settings: Settings) -> None:
    await run_console(settings, stopping_event())
