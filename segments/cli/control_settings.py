import asyncio

from segments.files.base_connection import variables_named
from segments.ledger.database.engine import LedgerUnusable, existing_ledger, reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.external_audience.base_connections import connections
from segments.runtime.settings_reader import read_settings
from segments.settings import Settings


def control_settings() -> Settings:
    """
    Read the control plane's settings, or end the process with a line for each wrong setting.

    Side effects: opens the ledger if a `SEGMENTS_` variable is no setting: a base connection may
    name it for a secret (`env:NAME`).
    """
    return read_settings(Settings, _named_by_connections)


def _named_by_connections(settings: Settings) -> set[str]:
    try:
        return asyncio.run(_named(settings))
    except (LedgerUnusable, *LEDGER_FAILURES):
        return set()


async def _named(settings: Settings) -> set[str]:
    async with existing_ledger(settings.ledger_dsn) as ledger, reading(ledger) as conn:
        found = await connections(conn)
    return {name for each in found for name in variables_named(each.options)}
