"""
The list of audiences, newest first: by cursor, and by page number as vendors count.

A condition is a tree of `Named`, `InState`, `OwnedBy`, `ByProvider`, `AllOf`, `AnyOf`, `Not`.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.job_list import is_of_account
from segments.ledger.pages import DEFAULT_LIMIT, Page, number_after, page_of
from segments.ledger.tables import audiences as _audiences
from segments.ledger.tables import external_ids as _external_ids
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState

_LIST = "audiences"
_MAX_NUMBER = 2**63 - 1


class ListedAudience(NamedTuple):
    """An audience of a list."""

    audience: Audience
    created_at_s: int
    updated_at_s: int
    external_id: str | None  # the owner's id of it in other systems


class Named(NamedTuple):
    """The name is exactly this."""

    name: str


class InState(NamedTuple):
    """The state is this."""

    state: AudienceState


class OwnedBy(NamedTuple):
    """The owner's number is this."""

    account_id: int


class ByProvider(NamedTuple):
    """The partner's number is this."""

    account_id: int


class AllOf(NamedTuple):
    """All of these hold; of none: all audiences."""

    conditions: tuple["Condition", ...]


class AnyOf(NamedTuple):
    """Any of these holds; of none: no audience."""

    conditions: tuple["Condition", ...]


class Not(NamedTuple):
    """This does not hold."""

    condition: "Condition"


Condition = Named | InState | OwnedBy | ByProvider | AllOf | AnyOf | Not


class AudienceFilter(NamedTuple):
    """Members narrow the list."""

    account: Account | None = None  # as an owner or its partner; `None`: all
    states: Collection[AudienceState] = ()  # none: all
    text: str = ""  # a part of the name or segment id, in any case; the number; the owner's id
    updated_after_s: float | None = None
    condition: Condition | None = None


async def audience_page(
    conn: AsyncConnection,
    wanted: AudienceFilter,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[ListedAudience]:
    """
    Return a page of audiences, newest first.

    Raises:
        Refusal: The cursor is none of this list.
    """
    before = number_after(_LIST, cursor)
    conditions = await _conditions(conn, wanted)
    if before is not None:
        conditions.append(_audiences.c.id < before)
    found = await _rows(conn, conditions, limit + 1, 0)
    return page_of(_LIST, found, [each.audience.id for each in found], limit)


async def numbered_page(
    conn: AsyncConnection, wanted: AudienceFilter, *, number: int, size: int
) -> tuple[Sequence[ListedAudience], int]:
    """Return the `number`th page from 1, newest first, and the number of all audiences."""
    conditions = await _conditions(conn, wanted)
    total = (
        await conn.execute(select(func.count(_audiences.c.id)).where(*conditions))
    ).scalar_one()
    return await _rows(conn, conditions, size, (number - 1) * size), total


async def count_by_state(conn: AsyncConnection, account: Account) -> dict[AudienceState, int]:
    """Return the numbers of an account's audiences."""
    conditions = await _conditions(conn, AudienceFilter(account))
    rows = await conn.execute(
        select(_audiences.c.state, func.count(_audiences.c.id))
        .where(*conditions)
        .group_by(_audiences.c.state)
    )
    return {AudienceState(state): count for state, count in rows}


async def listed_audience(
    conn: AsyncConnection, account: Account | None, audience_id: int
) -> ListedAudience | None:
    """Return an account's audience by its number; `None` if it has none."""
    conditions = await _conditions(conn, AudienceFilter(account))
    found = await _rows(conn, [*conditions, _audiences.c.id == audience_id], 1, 0)
    return found[0] if found else None


async def _rows(
    conn: AsyncConnection, conditions: Sequence[ColumnElement[bool]], limit: int, offset: int
) -> list[ListedAudience]:
    external_id = (
        select(func.min(_external_ids.c.external_id))
        .where(_external_ids.c.audience_id == _audiences.c.id)
        .scalar_subquery()
    )
    rows = await conn.execute(
        select(_audiences, external_id.label("external_id"))
        .where(*conditions)
        .order_by(_audiences.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [
        ListedAudience(
            Audience(
                row.id,
                row.owner_id,
                row.partner_id,
                row.segment_id,
                row.name,
                AudienceState(row.state),
                row.live_from_s,
                row.live_until_s,
                row.ttl_days,
            ),
            row.created_at_s,
            row.updated_at_s,
            row.external_id,
        )
        for row in rows
    ]


async def _conditions(conn: AsyncConnection, wanted: AudienceFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.account is not None:
        conditions.append(await is_of_account(conn, _audiences.c, wanted.account))
    if wanted.states:
        conditions.append(_audiences.c.state.in_([state.value for state in wanted.states]))
    if wanted.updated_after_s is not None:
        conditions.append(_audiences.c.updated_at_s > wanted.updated_after_s)
    if wanted.text:
        text = wanted.text
        is_like = [
            _audiences.c.name.icontains(text, autoescape=True),
            _audiences.c.segment_id.icontains(text, autoescape=True),
        ]
        if text.isascii() and text.isdecimal() and int(text) <= _MAX_NUMBER:
            is_like.append(_audiences.c.id == int(text))
        is_like.append(
            _audiences.c.id.in_(
                select(_external_ids.c.audience_id).where(_external_ids.c.external_id == text)
            )
        )
        conditions.append(or_(*is_like))
    if wanted.condition is not None:
        conditions.append(_holds(wanted.condition))
    return conditions


def _holds(condition: Condition) -> ColumnElement[bool]:
    match condition:
        case Named(name):
            return _audiences.c.name == name
        case InState(state):
            return _audiences.c.state == state.value
        case OwnedBy(account_id):
            return _is_number(_audiences.c.owner_id, account_id)
        case ByProvider(account_id):
            return _is_number(_audiences.c.partner_id, account_id)
        case AllOf(conditions):
            return and_(true(), *map(_holds, conditions))
        case AnyOf(conditions):
            return or_(false(), *map(_holds, conditions))
        case Not(negated):
            return not_(_holds(negated))


def _is_number(column: ColumnElement[int], number: int) -> ColumnElement[bool]:
    """Compare with a number that may be too large for the database."""
    return column == number if abs(number) <= _MAX_NUMBER else false()
