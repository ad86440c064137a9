"""
The list of the audit trail, newest first.

An account reads the acts on what is its own or its sub accounts'. Entries that concern persons are
in no account's list, as they would tell when a person opted out: those with digests of ids, and the
privacy doors' others, which name no target.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import String, cast, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.accounts import below
from segments.ledger.pages import DEFAULT_LIMIT, Page, number_after, page_of
from segments.ledger.tables import audit as _audit
from segments.model.account import Account

_LIST = "audit"
_NO_SUBJECTS = "[]"


class AuditFilter(NamedTuple):
    """Members narrow the list."""

    account: Account | None = None  # on what is its own, about no person; `None`: everything
    actor: str | None = None  # segments.ledger.privacy.audit.Actor
    what: str | None = None
    result: str | None = None  # done, refused
    since_s: float | None = None  # at this time or later
    until_s: float | None = None  # before
    is_about_persons: bool = False  # only entries that concern persons
    scope_ids: Collection[int] | None = None  # on any of these accounts; `None`: everything
    transaction_id: str | None = None  # of a data subject's request
    target: str | None = None
    subject: str | None = None  # the first word of `what`


class ListedEntry(NamedTuple):
    """An entry of a list, without the digests of ids."""

    id: int
    at_s: float
    actor: str
    actor_name: str | None
    account_id: int | None  # the actor's
    what: str
    result: str
    reason: str | None
    scope_id: int | None
    transaction_id: str | None
    times: int
    target: str | None
    detail: dict[str, Any] | None


_CONCERNS_PERSONS = or_(_audit.c.target.is_(None), cast(_audit.c.subjects, String) != _NO_SUBJECTS)
_COLUMNS = tuple(_audit.c[name] for name in ListedEntry._fields)


async def audit_page(
    conn: AsyncConnection,
    wanted: AuditFilter,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[ListedEntry]:
    """
    Return a page of the trail, newest first.

    Raises:
        Refusal: The cursor is none of this list.
    """
    before = number_after(_LIST, cursor)
    asked = select(*_COLUMNS).order_by(_audit.c.id.desc()).limit(limit + 1)
    if before is not None:
        asked = asked.where(_audit.c.id < before)
    if wanted.account is not None:
        own = [wanted.account, *await below(conn, wanted.account)]
        asked = asked.where(
            _audit.c.scope_id.in_([account.id for account in own]), not_(_CONCERNS_PERSONS)
        )
    if wanted.is_about_persons:
        asked = asked.where(_CONCERNS_PERSONS)
    if wanted.scope_ids is not None:
        asked = asked.where(_audit.c.scope_id.in_(wanted.scope_ids))
    for column, text in (
        (_audit.c.actor, wanted.actor),
        (_audit.c.what, wanted.what),
        (_audit.c.result, wanted.result),
        (_audit.c.transaction_id, wanted.transaction_id),
        (_audit.c.target, wanted.target),
    ):
        if text is not None:
            asked = asked.where(column == text)
    if wanted.subject is not None:
        asked = asked.where(_audit.c.what.startswith(f"{wanted.subject} ", autoescape=True))
    if wanted.since_s is not None:
        asked = asked.where(_audit.c.at_s >= wanted.since_s)
    if wanted.until_s is not None:
        asked = asked.where(_audit.c.at_s < wanted.until_s)
    found = [ListedEntry(*row) for row in await conn.execute(asked)]
    return page_of(_LIST, found, [entry.id for entry in found], limit)
