"""
When a credential was last used: the Privacy API's tokens and keys, orgs' API keys, SSH keys.

Recorded in the credential's own row, at most once in `NOTED_EVERY_S`, so that requests which only
read go on writing nothing. It is for people: no request is refused because that fails.
"""

import logging
from typing import Final

from sqlalchemy import ColumnElement, Table, or_, update
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.errors import LEDGER_FAILURES

NOTED_EVERY_S: Final = 600

_log = logging.getLogger(__name__)


async def note_use(
    ledger: AsyncEngine,
    table: Table,
    is_row: ColumnElement[bool],
    used_at_s: int | None,
    *,
    now_s: float,
) -> None:
    """
    Record that a credential was used, in a transaction of its own, if that is due.

    `table` has a column `used_at_s`; `used_at_s` is as the row `is_row` said; `None`: never used.
    """
    if used_at_s is not None and now_s - used_at_s < NOTED_EVERY_S:
        return
    # Of requests at the same time, one writes.
    column = table.c.used_at_s
    is_due = or_(column.is_(None), column <= int(now_s) - NOTED_EVERY_S)
    try:
        async with ledger.begin() as conn:
            noted = update(table).where(is_row, is_due).values(used_at_s=int(now_s))
            await conn.execute(noted)
    except LEDGER_FAILURES as error:
        _log.warning("the use of a credential was not recorded: %s", type(error).__name__)
