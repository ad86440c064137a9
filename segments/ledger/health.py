"""Checks that the ledger can be read and written, for `/health/ready` and `doctor`."""

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import check_writable, reading
from segments.ledger.database.errors import LEDGER_FAILURES, cause_of
from segments.ledger.revision import revision


async def ledger_reasons(ledger: AsyncEngine) -> list[str]:
    """Return why the ledger can't be read; empty if it can."""
    try:
        async with reading(ledger) as conn:
            await revision(conn)
    except LEDGER_FAILURES as error:
        return [_why(error)]
    return []


async def write_reasons(ledger: AsyncEngine) -> list[str]:
    """Return why the ledger can't be written; empty if it can."""
    try:
        await check_writable(ledger)
    except LEDGER_FAILURES as error:
        return [_why(error)]
    return []


def _why(error: BaseException) -> str:
    cause = cause_of(error)
    return f"ledger ({type(error).__name__})" if cause is None else cause.of("the ledger")
