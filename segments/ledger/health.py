"""Whether the ledger can be read, for `/health/ready`."""

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import LedgerAway, reading
from segments.ledger.revision import revision


async def ledger_reasons(ledger: AsyncEngine) -> list[str]:
    """Tell why the ledger can't be read, if it can't."""
    try:
        async with reading(ledger) as conn:
            await revision(conn)
    except (SQLAlchemyError, OSError, LedgerAway) as error:
        return [f"ledger ({type(error).__name__})"]
    return []
