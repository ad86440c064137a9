import asyncio

import click

from segments.cli import PROCESSES
from segments.files.base_connection import variables_named
from segments.ledger.database.engine import LedgerUnusable, existing_ledger, reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.external_audience.base_connections import connections
from segments.runtime.follow_settings import FollowSettings
from segments.runtime.log_lines import log_to_stderr
from segments.runtime.settings_reader import read_settings
from segments.settings import Settings


def control_settings() -> Settings:
    """
    Read the control plane's settings, or end the process with a line for each wrong setting.

    Side effects: from now on the log has the form of the settings, with the command's name. Opens
    the ledger if a `SEGMENTS_` variable is no setting: a base connection may name it for a secret
    (`env:NAME`).
    """
    settings = read_settings(Settings, _named_by_connections)
    log_of_command(settings)
    return settings


def log_of_command(settings: Settings | FollowSettings) -> None:
    """
    Log as the settings say, with the command's name as the process.

    A command that ends by itself reports its work on its own: unless a level is set, its log has
    only warnings and errors.
    """
    command = click.get_current_context().find_root().invoked_subcommand or ""
    is_quiet = command not in PROCESSES and "log_level" not in settings.model_fields_set
    log_to_stderr("warning" if is_quiet else settings.log_level, settings.log_format, command)


def _named_by_connections(settings: Settings) -> set[str]:
    try:
        return asyncio.run(_named(settings))
    except (LedgerUnusable, *LEDGER_FAILURES):
        return set()


async def _named(settings: Settings) -> set[str]:
    async with existing_ledger(settings.ledger_dsn) as ledger, reading(ledger) as conn:
        found = await connections(conn)
    return {name for each in found for name in variables_named(each.options)}
