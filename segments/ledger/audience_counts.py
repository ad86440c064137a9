"""Queries of the census's counts of audiences."""

from collections.abc import Collection, Iterable

from sqlalchemy import delete, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.signing_secrets import own_secret
from segments.ledger.tables import audience_counts as _counts
from segments.ledger.tables import audiences as _audiences
from segments.ledger.tables import job_audiences as _job_audiences
from segments.ledger.tables import jobs as _jobs
from segments.model.audience import AudienceState
from segments.model.audience_count import AudienceCount
from segments.model.job import JobState

_SECRET = "partner numbers"  # noqa: S105 - its name
MAX_DAYS = 400
"""Older counts are deleted."""

_COLUMNS = tuple(_counts.c[name] for name in AudienceCount._fields)


async def partner_secret(conn: AsyncConnection, *, now_s: float) -> bytes:
    """
    Return the secret of `segments.model.partner_numbers`.

    `conn` is a transaction. The secret never changes, or each count would get another offset.
    """
    return await own_secret(conn, _SECRET, now_s=now_s)


async def counts_of(
    conn: AsyncConnection, audience_id: int, limit: int = MAX_DAYS
) -> list[AudienceCount]:
    """Return an audience's last counts, the latest first."""
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(_counts.c.audience_id == audience_id)
        .order_by(_counts.c.day.desc())
        .limit(limit)
    )
    return [_count(*row) for row in rows]


async def last_counts(
    conn: AsyncConnection, audience_ids: Collection[int]
) -> dict[int, AudienceCount]:
    """Return the latest count of each of some dozen audiences, if any."""
    last = (
        select(_counts.c.audience_id, func.max(_counts.c.day).label("day"))
        .where(_counts.c.audience_id.in_(audience_ids))
        .group_by(_counts.c.audience_id)
        .subquery()
    )
    rows = await conn.execute(
        select(*_COLUMNS).join(
            last, (_counts.c.audience_id == last.c.audience_id) & (_counts.c.day == last.c.day)
        )
    )
    return {row.audience_id: _count(*row) for row in rows}


async def members_since(
    conn: AsyncConnection, audience_ids: Collection[int], first_day: int
) -> dict[int, list[tuple[int, int]]]:
    """Return day and members of some dozen audiences' counts since a day, the oldest first."""
    rows = await conn.execute(
        select(_counts.c.audience_id, _counts.c.day, _counts.c.members)
        .where(_counts.c.audience_id.in_(audience_ids), _counts.c.day >= first_day)
        .order_by(_counts.c.audience_id, _counts.c.day)
    )
    found: dict[int, list[tuple[int, int]]] = {}
    for audience_id, day, members in rows:
        found.setdefault(audience_id, []).append((day, members))
    return found


async def is_census_due(conn: AsyncConnection, today: int) -> bool:
    """Tell whether nothing was counted today, or an audience with a done delivery never was."""
    is_counted_today = select(_counts.c.day).where(_counts.c.day == today).limit(1)
    if await conn.scalar(is_counted_today) is None:
        return True
    never = (
        select(_audiences.c.id)
        .where(
            _audiences.c.state != AudienceState.DELETED.value,
            exists().where(
                _job_audiences.c.audience_id == _audiences.c.id,
                _job_audiences.c.job_id == _jobs.c.id,
                _jobs.c.state == JobState.DONE.value,
            ),
            ~exists().where(_counts.c.audience_id == _audiences.c.id),
        )
        .limit(1)
    )
    return await conn.scalar(never) is not None


async def to_be_counted(conn: AsyncConnection) -> dict[int, int]:
    """Return the owners of existing audiences that had a delivery."""
    rows = await conn.execute(
        select(_audiences.c.id, _audiences.c.owner_id).where(
            _audiences.c.state != AudienceState.DELETED.value,
            exists().where(_job_audiences.c.audience_id == _audiences.c.id),
        )
    )
    return {row.id: row.owner_id for row in rows}


async def keep_counts(conn: AsyncConnection, counts: Iterable[AudienceCount]) -> None:
    """Save a census's counts, in place of earlier ones."""
    for count in counts:
        await conn.execute(
            delete(_counts).where(
                _counts.c.audience_id == count.audience_id, _counts.c.day == count.day
            )
        )
        ends = {str(day): number for day, number in sorted(count.ends.items())}
        await conn.execute(insert(_counts).values(**{**count._asdict(), "ends": ends}))


async def forget_counts(conn: AsyncConnection, today: int) -> None:
    """Delete counts older than `MAX_DAYS`."""
    await conn.execute(delete(_counts).where(_counts.c.day <= today - MAX_DAYS))


def _count(
    audience_id: int,
    day: int,
    counted_at_s: float,
    members: int,
    opted_out: int,
    ends: dict[str, int],
) -> AudienceCount:
    by_day = {int(end): number for end, number in ends.items()}
    return AudienceCount(audience_id, day, counted_at_s, members, opted_out, by_day)
