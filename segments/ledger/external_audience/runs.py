"""
Queries of runs: ingestions of an external audience.

A run is a job with its files, chosen at the request. A file counts as taken if a run that did not
fail took its path in the same version and with the same time; its content delivered again renews
memberships.
"""

import operator
import uuid
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.files.customer_storage import SourceFile
from segments.ledger.external_audience.audiences import ExternalAudience
from segments.ledger.tables import external_run_files as _files
from segments.ledger.tables import external_runs as _runs
from segments.ledger.tables import jobs as _jobs
from segments.model.job import UNFINISHED, Job, JobState


class Run(NamedTuple):
    """A row of `external_runs`."""

    id: int
    public_id: str  # `runId`
    external_audience_id: int
    sandbox_id: int
    job_id: int
    is_differential: bool
    filter_start_s: int
    filter_end_s: int
    created_by: str
    created_at_s: int
    collected: dict[str, Any] | None  # the result of reading its files; `None`: unread


class Began(NamedTuple):
    """A condition on a run's start."""

    operator: str  # of `_COMPARE`
    at_s: int


_COLUMNS = tuple(_runs.c[name] for name in Run._fields)
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


def new_run_id() -> str:
    """Make an id that links run and job."""
    return str(uuid.uuid4())


async def add_run(
    conn: AsyncConnection,
    external: ExternalAudience,
    job: Job,
    run_id: str,
    files: Sequence[SourceFile],
    *,
    is_differential: bool,
    filter_start_s: int,
    filter_end_s: int,
    user_id: str,
    now_s: float,
) -> Run:
    """Add a run whose job was submitted in the same transaction."""
    row = {
        "public_id": run_id,
        "external_audience_id": external.id,
        "sandbox_id": external.sandbox_id,
        "job_id": job.id,
        "is_differential": is_differential,
        "filter_start_s": filter_start_s,
        "filter_end_s": filter_end_s,
        "created_by": user_id,
        "created_at_s": int(now_s),
    }
    inserted = await conn.execute(insert(_runs).values(row).returning(*_COLUMNS))
    run = Run(*inserted.one())
    if files:
        rows = [
            {"run_id": run.id, "number": number, **file._asdict()}
            for number, file in enumerate(files)
        ]
        await conn.execute(insert(_files), rows)
    return run


async def find(conn: AsyncConnection, external: ExternalAudience, public_id: str) -> Run | None:
    """Return a run of an external audience."""
    asked = select(*_COLUMNS).where(
        _runs.c.public_id == public_id, _runs.c.external_audience_id == external.id
    )
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else Run(*row)


async def taken_before(
    conn: AsyncConnection, external: ExternalAudience, paths: Collection[str]
) -> set[tuple[str, str, float]]:
    """Return the taken files among some thousand paths: path, version and time."""
    asked = (
        select(_files.c.path, _files.c.version, _files.c.modified_at_s)
        .join_from(_files, _runs)
        .join(_jobs, _jobs.c.id == _runs.c.job_id)
        .where(
            _runs.c.external_audience_id == external.id,
            _files.c.path.in_(paths),
            _jobs.c.state != JobState.FAILED,
        )
    )
    return {(path, version, at_s) for path, version, at_s in await conn.execute(asked)}


async def job_ids(conn: AsyncConnection, external: ExternalAudience) -> Sequence[int]:
    """Return the jobs of an external audience's runs."""
    asked = select(_runs.c.job_id).where(_runs.c.external_audience_id == external.id)
    return list(await conn.scalars(asked))


async def forget_files(conn: AsyncConnection, external: ExternalAudience) -> None:
    """Delete the file names of an external audience's runs."""
    runs = select(_runs.c.id).where(_runs.c.external_audience_id == external.id)
    await conn.execute(delete(_files).where(_files.c.run_id.in_(runs)))


async def is_any_unfinished(conn: AsyncConnection, external: ExternalAudience) -> bool:
    """Tell whether the audience has a run waiting, running or held."""
    asked = (
        select(_runs.c.id)
        .join(_jobs, _jobs.c.id == _runs.c.job_id)
        .where(_runs.c.external_audience_id == external.id, _jobs.c.state.in_(UNFINISHED))
    )
    return (await conn.execute(asked.limit(1))).first() is not None


async def count_since(
    conn: AsyncConnection, external: ExternalAudience, since_s: int
) -> tuple[int, int]:
    """Count the runs since `since_s`: of the sandbox, and of the audience."""
    is_of_it = _runs.c.external_audience_id == external.id
    asked = select(func.count(), func.count().filter(is_of_it)).where(
        _runs.c.sandbox_id == external.sandbox_id, _runs.c.created_at_s >= since_s
    )
    in_sandbox, of_audience = (await conn.execute(asked)).one()
    return in_sandbox, of_audience


async def page(
    conn: AsyncConnection,
    external: ExternalAudience,
    *,
    start: int,
    limit: int,
    newest_first: bool,
    states: Collection[JobState],
    began: Collection[Began] = (),
) -> tuple[list[Run], int]:
    """
    Return up to `limit` runs of an external audience, after `start` others, and the total.

    A run matches if its job is in one of `states` and all of `began` hold.
    """
    conditions = [
        _runs.c.external_audience_id == external.id,
        _jobs.c.state.in_(states),
        *(_COMPARE[each.operator](_runs.c.created_at_s, each.at_s) for each in began),
    ]
    of_these = select(*_COLUMNS).join(_jobs, _jobs.c.id == _runs.c.job_id).where(*conditions)
    total: int = (
        await conn.execute(select(func.count()).select_from(of_these.subquery()))
    ).scalar_one()
    order = _runs.c.id.desc() if newest_first else _runs.c.id
    rows = await conn.execute(of_these.order_by(order).offset(start).limit(limit))
    return [Run(*row) for row in rows], total
