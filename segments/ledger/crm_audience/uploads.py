"""
Queries of uploads to audiences of the CRM door.

Rows are added before the job's first membership, so that "known before this upload" stays true when
the job resumes. An upload's state is its job's.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.jobs import job_of
from segments.ledger.tables import crm_uploads as _crm_uploads
from segments.ledger.tables import jobs as _jobs
from segments.model.audience import Audience
from segments.model.job import Job, JobState
from segments.model.order import SegmentAction


class Mode(StrEnum):
    """The vendor's word for an upload's effect on its persons."""

    OPT_IN = "opt-in"
    OPT_OUT = "opt-out"


MODE_OF = {SegmentAction.ADD: Mode.OPT_IN, SegmentAction.REMOVE: Mode.OPT_OUT}

_LOOKED_THROUGH = 1000


class CrmUpload(NamedTuple):
    """A file's upload to an audience."""

    job_id: int
    mode: Mode
    total_rows: int
    data_set: dict[str, Any]  # data type -> segments.doors.crm_audience.schemas.DataSetCounts
    created_at_s: float
    job_state: str  # segments.model.job.JobState
    finished_at_s: float | None


async def is_counted(conn: AsyncConnection, job: Job) -> bool:
    """Tell whether a job has its rows."""
    asked = select(_crm_uploads.c.job_id).where(_crm_uploads.c.job_id == job.id).limit(1)
    return (await conn.execute(asked)).first() is not None


async def note(
    conn: AsyncConnection,
    job: Job,
    audience_to_action: dict[int, SegmentAction],
    *,
    total_rows: int,
    data_set: dict[str, Any],
) -> None:
    """Add a job's rows, for each audience of this door that it changes."""
    rows = [
        {
            "audience_id": audience_id,
            "job_id": job.id,
            "mode": MODE_OF[action].value,
            "total_rows": total_rows,
            "data_set": data_set,
            "created_at_s": job.created_at_s,
        }
        for audience_id, action in audience_to_action.items()
    ]
    await conn.execute(insert(_crm_uploads), rows)


async def of_audience(conn: AsyncConnection, audience_id: int) -> list[CrmUpload]:
    """Return an audience's uploads, oldest first."""
    asked = (
        select(
            *(_crm_uploads.c[name] for name in CrmUpload._fields[:5]),
            _jobs.c.state.label("job_state"),
            _jobs.c.finished_at_s,
        )
        .join(_jobs, _jobs.c.id == _crm_uploads.c.job_id)
        .where(_crm_uploads.c.audience_id == audience_id)
        .order_by(_crm_uploads.c.job_id)
    )
    return [
        CrmUpload(**{**row._asdict(), "mode": Mode(row.mode)}) for row in await conn.execute(asked)
    ]


async def failed(conn: AsyncConnection, audience: Audience, *, at_most: int) -> Sequence[Job]:
    """
    Return the latest failed jobs that targeted an audience, newest first.

    Most failed before they had rows. Searches the partner's last thousand failures.
    """
    rows = await conn.execute(
        select(_jobs)
        .where(_jobs.c.partner_id == audience.partner_id, _jobs.c.state == JobState.FAILED)
        .order_by(_jobs.c.id.desc())
        .limit(_LOOKED_THROUGH)
    )
    of_audience = (job for job in map(job_of, rows) if actions_of(job, audience))
    return list(islice(of_audience, at_most))


def actions_of(job: Job, audience: Audience) -> list[SegmentAction]:
    """Return a job's actions on an audience."""
    if job.owner_id != audience.owner_id:
        return []
    return [
        ordered.action
        for ordered in job.order.segments
        if ordered.audience_id == audience.id or ordered.segment_id == audience.segment_id
    ]


async def job_ids(conn: AsyncConnection, audience_id: int) -> Collection[int]:
    """Return the jobs that uploaded to an audience."""
    asked = select(_crm_uploads.c.job_id).where(_crm_uploads.c.audience_id == audience_id)
    return list(await conn.scalars(asked))


async def forget(conn: AsyncConnection, audience_id: int) -> None:
    """Delete the uploads of an audience."""
    await conn.execute(delete(_crm_uploads).where(_crm_uploads.c.audience_id == audience_id))
