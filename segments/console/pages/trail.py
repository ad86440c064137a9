"""
The audit trail, newest first, as a page and as a file, which leaves a row itself. No entry shows a
person.
"""

from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web

from segments.acts.downloads import note_export
from segments.console.application import Page
from segments.console.file_answers import MAX_ROWS, Cell, csv_of, time_of
from segments.console.visit import Visit
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.pages import MAX_LIMIT
from segments.ledger.privacy.audit import Actor
from segments.ledger.privacy.audit_list import AuditFilter, ListedEntry, audit_page
from segments.model.account import Account
from segments.model.role import Role

_FILTERS = ("actor", "what", "result")
_HEAD = (
    "when", "actor", "name", "act", "result", "why", "on", "transaction", "account", "times",
    "detail",
)  # fmt: skip


def trail_pages() -> list[Page]:
    """Return the pages."""
    operator = (Role.OPERATOR,)
    return [
        Page("GET", "/ops/audit", show, operator),
        Page("GET", "/ops/audit.csv", export, operator),
    ]


async def show(visit: Visit) -> web.Response:
    """Show a page of the trail."""
    return await trail_page(visit, "/ops/audit", wanted_of(visit))


async def export(visit: Visit) -> web.Response:
    """Answer with the trail as a file."""
    return await trail_csv(visit, "audit-trail", wanted_of(visit))


def wanted_of(visit: Visit) -> AuditFilter:
    """Return the filter in the URL."""
    actor, what, result = (visit.request.query.get(name, "").strip() for name in _FILTERS)
    return AuditFilter(actor=actor or None, what=what or None, result=result or None)


async def trail_page(visit: Visit, base: str, wanted: AuditFilter) -> web.Response:
    """Answer with a page of a trail; `base` is its path, and the file's with `.csv`."""
    async with reading(visit.console.services.ledger) as conn:
        page = await audit_page(conn, wanted, cursor=visit.request.query.get("cursor"))
        names = {each.id: each.public_id for each in await accounts.accounts(conn)}
    filters = {name: getattr(wanted, name) or "" for name in _FILTERS}
    return visit.page(
        "trail.html",
        base=base,
        rows=page.rows,
        names=names,
        next_cursor=page.next_cursor,
        actors=[each.value for each in Actor],
        filters=filters,
        is_filtered=any(filters.values()),
        max_rows=MAX_ROWS,
    )


async def trail_csv(
    visit: Visit, name: str, wanted: AuditFilter, scope: Account | None = None
) -> web.Response:
    """
    Answer with a trail as a file, the newest rows first.

    `scope` is the account whose trail it is; `None`: the deployment's.
    """
    found: list[ListedEntry] = []
    cursor: str | None = None
    async with visit.console.services.ledger.begin() as conn:
        names = {each.id: each.public_id for each in await accounts.accounts(conn)}
        while len(found) < MAX_ROWS:
            page = await audit_page(conn, wanted, limit=MAX_LIMIT, cursor=cursor)
            found += page.rows
            cursor = page.next_cursor
            if cursor is None:
                break
        await note_export(conn, visit.by, scope)
    rows = [_row(each, names) for each in found]
    return csv_of(name, _HEAD, rows, is_cut=cursor is not None)


def _row(entry: ListedEntry, names: dict[int, str]) -> Iterable[Cell]:
    return (
        time_of(entry.at_s),
        entry.actor,
        entry.actor_name,
        entry.what,
        entry.result,
        entry.reason,
        entry.target,
        entry.transaction_id,
        names.get(entry.scope_id or 0),
        entry.times,
        _detail(entry.detail),
    )


def _detail(detail: dict[str, Any] | None) -> str | None:
    return None if detail is None else orjson.dumps(detail).decode()
