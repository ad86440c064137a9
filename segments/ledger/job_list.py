"""
The list of deliveries: jobs, newest first.

First an index of all filtered columns gives the numbers of a page; then its rows are read. So a
search without a match among 100,000 jobs reads no report.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, collate, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.accounts import partner_of
from segments.ledger.jobs import job_of
from segments.ledger.pages import DEFAULT_LIMIT, Page, number_after, page_of
from segments.ledger.tables import audiences as _audiences
from segments.ledger.tables import job_audiences as _job_audiences
from segments.ledger.tables import jobs as _jobs
from segments.model.account import Account
from segments.model.job import Job, JobState

_LIST = "deliveries"
_every = _jobs.alias()


class JobFilter(NamedTuple):
    """Members narrow the list."""

    account: Account | None = None  # that delivered, or owns the audiences; `None`: all
    states: Collection[JobState] = ()  # none: all
    audience_id: int | None = None
    since_s: float | None = None  # received at this time or later
    until_s: float | None = None  # received before
    text: str = ""  # a part of the file's name, in any case, or the whole transaction id


async def job_page(
    conn: AsyncConnection,
    wanted: JobFilter,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[Job]:
    """
    Return a page of jobs, newest first.

    Raises:
        Refusal: The cursor is none of this list.
    """
    before = number_after(_LIST, cursor)
    numbers = (await _numbers(conn, wanted)).limit(limit + 1)
    if before is not None:
        numbers = numbers.where(_number(wanted) < before)
    found: list[int] = [row[0] for row in await conn.execute(numbers)]
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.id.in_(found)).order_by(_jobs.c.id.desc())
    )
    return page_of(_LIST, [job_of(row) for row in rows], found, limit)


async def numbered_jobs(
    conn: AsyncConnection, audience_id: int, *, number: int, size: int
) -> tuple[Sequence[Job], int]:
    """Return the `number`th page from 1 of an audience's jobs, and the number of all."""
    is_of_audience = _job_audiences.c.audience_id == audience_id
    counted = select(func.count(_job_audiences.c.job_id.distinct())).where(is_of_audience)
    total = (await conn.execute(counted)).scalar_one()
    numbers = (
        select(_job_audiences.c.job_id)
        .distinct()
        .where(is_of_audience)
        .order_by(_job_audiences.c.job_id.desc())
        .limit(size)
        .offset((number - 1) * size)
    )
    found = [row[0] for row in await conn.execute(numbers)]
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.id.in_(found)).order_by(_jobs.c.id.desc())
    )
    return [job_of(row) for row in rows], total


async def job_of_account(
    conn: AsyncConnection, account: Account, transaction_id: str
) -> Job | None:
    """Return an account's job by its transaction id."""
    asked = select(_jobs).where(
        _jobs.c.transaction_id == transaction_id, await is_of_account(conn, _jobs.c, account)
    )
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else job_of(row)


async def last_jobs(conn: AsyncConnection, audience_ids: Collection[int]) -> dict[int, Job]:
    """Return the last job of each of some dozen audiences, if any."""
    last = (
        select(func.max(_job_audiences.c.job_id))
        .where(_job_audiences.c.audience_id == _audiences.c.id)
        .scalar_subquery()
    )
    asked = select(_audiences.c.id, last).where(_audiences.c.id.in_(audience_ids))
    number_of = {row[0]: row[1] for row in await conn.execute(asked) if row[1] is not None}
    rows = await conn.execute(select(_jobs).where(_jobs.c.id.in_(set(number_of.values()))))
    jobs = {row.id: job_of(row) for row in rows}
    return {audience_id: jobs[job_id] for audience_id, job_id in number_of.items()}


async def is_of_account(
    conn: AsyncConnection, columns: Any, account: Account
) -> ColumnElement[bool]:
    """
    Return the condition that a job or an audience is an account's, or its sub accounts'.

    One column, the first of an index, decides.
    """
    partner = await partner_of(conn, account)
    is_of: ColumnElement[bool] = (
        columns.partner_id == account.id
        if partner.id == account.id
        else columns.owner_id == account.id
    )
    return is_of


def _reads_audience_first(wanted: JobFilter) -> bool:
    """
    Tell whether to find an audience's jobs first, and filter these.

    Not for texts, which are in the jobs' own index, nor for states of few jobs.
    """
    is_any_done = not wanted.states or JobState.DONE in wanted.states
    return wanted.audience_id is not None and not wanted.text and is_any_done


def _number(wanted: JobFilter) -> ColumnElement[int]:
    return _job_audiences.c.job_id if _reads_audience_first(wanted) else _jobs.c.id


async def _numbers(conn: AsyncConnection, wanted: JobFilter) -> Select[int]:
    number = _number(wanted)
    asked = select(number).order_by(number.desc())
    is_of_audience = _job_audiences.c.audience_id == wanted.audience_id
    if _reads_audience_first(wanted):
        # A job may both add to and remove from an audience.
        asked = asked.distinct().where(is_of_audience)
        asked = asked.join(_jobs, _jobs.c.id == _job_audiences.c.job_id)
    elif wanted.audience_id is not None:
        # Not EXISTS, which PostgreSQL turns into a join with all jobs of the audience.
        changes = (
            select(_job_audiences.c.job_id)
            .where(_job_audiences.c.job_id == _jobs.c.id, is_of_audience)
            .limit(1)
            .scalar_subquery()
        )
        asked = asked.where(changes.is_not(None))
    if wanted.account is not None:
        asked = asked.where(await is_of_account(conn, _jobs.c, wanted.account))
    if wanted.states:
        asked = asked.where(_jobs.c.state.in_([state.value for state in wanted.states]))
    # Numbers nearly follow the time, so they bound the search.
    if wanted.since_s is not None:
        first = select(func.min(_every.c.id)).where(_every.c.created_at_s >= wanted.since_s)
        asked = asked.where(
            _jobs.c.created_at_s >= wanted.since_s, number >= first.scalar_subquery()
        )
    if wanted.until_s is not None:
        last = select(func.max(_every.c.id)).where(_every.c.created_at_s < wanted.until_s)
        asked = asked.where(_jobs.c.created_at_s < wanted.until_s, number <= last.scalar_subquery())
    if wanted.text:
        asked = asked.where(
            or_(_is_named(conn, wanted.text), _jobs.c.transaction_id == wanted.text)
        )
    return asked


def _is_named(conn: AsyncConnection, text: str) -> ColumnElement[bool]:
    # SQLite's LIKE ignores the case of ASCII in half the time of `lower`. PostgreSQL's `lower` is
    # faster with a simple collation; the pattern is made once.
    if conn.dialect.name == "sqlite":
        return _jobs.c.file_name.contains(text, autoescape=True)
    pattern = re.sub(r"([%_/])", r"/\1", text.lower())
    return func.lower(collate(_jobs.c.file_name, "C")).like(f"%{pattern}%", escape="/")
