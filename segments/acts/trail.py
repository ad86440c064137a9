"""
What a person does by their own hand stands in the audit trail, or was not done.

Each function of this package is one act: it changes the ledger and adds the row that
says who did it, to what, and how, in the transaction that it is given. Command line,
doors and console call the same one, so none of them can forget the row.

What takes from what bids show can be asked for again, for it may only be recorded at first
(`segments.projection.in_force`). Then it finds all as it is to be, changes nothing and adds
no second row.

A row's `target` is what people call the thing. Its `detail` says what was asked for, in
the words of the command, and never holds a secret: no password, token, key or URL.
"""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.privacy import audit
from segments.ledger.privacy.audit import Entry, Who
from segments.ledger.privacy.opt_outs import SAME_FOR_S
from segments.model.account import Account

Detail = Mapping[str, str | int | float | bool | None]


class By(NamedTuple):
    """Who acts, and when."""

    who: Who
    now_s: float


async def note(
    conn: AsyncConnection,
    by: By,
    what: str,
    target: str,
    *,
    scope: Account | None = None,
    detail: Detail | None = None,
) -> None:
    """
    Add the row of an act to the trail.

    Args:
        conn: The transaction of the act.
        by: Who does it.
        what: The act, in two words.
        target: What it is done to.
        scope: The account that it concerns, which may read of it; `None`: nobody's.
        detail: How.
    """
    entry = Entry(what, scope_id=None if scope is None else scope.id, target=target, detail=detail)
    await audit.add(conn, by.who, [entry], now_s=by.now_s)


async def was_done(conn: AsyncConnection, by: By, what: str, target: str, scope: Account) -> bool:
    """Tell whether it was done by the same hand just before, and this asks for it again."""
    entry = Entry(what, scope_id=scope.id, target=target)
    return await audit.was_done(conn, by.who, entry, since_s=by.now_s - SAME_FOR_S)
