"""Whether the ledger can be read, for `/health/ready`."""

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.revision import revision


async def ledger_reasons(ledger: AsyncEngine) -> list[str]:
    """Tell why the ledger can't be read, if it can't."""
    try:
        async with reading(ledger) as conn:
            await revision(conn)
    except LEDGER_FAILURES as error:
        return [f"ledger ({type(error).__name__})"]
    return []
