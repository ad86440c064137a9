"""
Every manual act is in the audit trail, or did not happen.

Each function of this package is an act: in the given transaction, it changes the ledger and adds
the audit row. Command line, doors and console call the same functions, so none can forget the row.

An act that withdraws something from bids can be repeated, because at first the ledger may only
record it (`segments.projection.in_force`). A repetition changes nothing and adds no row.

A row's `target` is a public name, its `detail` the request in the words of the command, never a
secret: no password, token, key or URL.
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
    """The actor of an act, and its time."""

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
    Add an act's row to the trail, in the act's transaction.

    `what` is the act, in two or three words; `scope` the account that may read the row.
    """
    entry = Entry(what, scope_id=None if scope is None else scope.id, target=target, detail=detail)
    await audit.add(conn, by.who, [entry], now_s=by.now_s)


async def was_done(conn: AsyncConnection, by: By, what: str, target: str, scope: Account) -> bool:
    """Tell whether the actor did the same act just before."""
    entry = Entry(what, scope_id=scope.id, target=target)
    return await audit.was_done(conn, by.who, entry, since_s=by.now_s - SAME_FOR_S)
