"""
The audiences that jobs change, for lists of deliveries by audience.

Written with a job's plan; a repeated plan replaces its rows.
"""

from collections.abc import Iterable

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import job_audiences as _job_audiences
from segments.model.job import Planned


async def note(conn: AsyncConnection, job_id: int, segments: Iterable[Planned]) -> None:
    """Save the audiences of a job's plan, in the plan's transaction."""
    await conn.execute(delete(_job_audiences).where(_job_audiences.c.job_id == job_id))
    changed = {
        (segment.audience_id, segment.action.value)
        for segment in segments
        if segment.audience_id is not None
    }
    if changed:
        rows = [
            {"job_id": job_id, "audience_id": audience_id, "action": action}
            for audience_id, action in sorted(changed)
        ]
        await conn.execute(insert(_job_audiences), rows)


async def forget(conn: AsyncConnection, job_id: int, audience_id: int) -> None:
    """Remove an audience from a job's."""
    await conn.execute(
        delete(_job_audiences).where(
            _job_audiences.c.job_id == job_id, _job_audiences.c.audience_id == audience_id
        )
    )
