from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger.privacy import audit
from segments.ledger.privacy.audit import Entry
from segments.model.account import Account


async def note_download(
    conn: AsyncConnection, by: By, file: str, scope: Account | None, *, rows: int | None = None
) -> None:
    """
    Record a file's download; `scope` is the account of its data, `None`: all; `rows` of a list.
    """
    detail = None if rows is None else {"rows": rows}
    await note(conn, by, "download", file, scope=scope, detail=detail)


async def note_export(conn: AsyncConnection, by: By, scope: Account | None) -> None:
    """
    Record the export of a trail: an account's (`scope`), or all.

    A row without a target counts as one about persons: it is in the privacy desk's trail, and in no
    account's list.
    """
    entry = Entry("export", scope_id=None if scope is None else scope.id)
    await audit.add(conn, by.who, [entry], now_s=by.now_s)
