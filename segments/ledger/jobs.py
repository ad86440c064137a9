"""
Queries of jobs: submission, and the state of submitted jobs.

A partner's files apply in the order of their jobs' numbers, so no job may become visible after a
job of its partner with a higher number: a submission locks the partner's row until the commit.

`segments.ledger.job_leases` rules loaders' changes.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, and_, false, func, insert, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import quotas
from segments.ledger.migrations import forms_before_0009
from segments.ledger.tables import accounts as _accounts
from segments.ledger.tables import jobs as _jobs
from segments.model.job import NO_FILE, UNFINISHED, Job, JobState, fingerprint
from segments.model.order import Order
from segments.model.stop_reason import Stopped, StopReason

_TRANSACTION_DIGITS = 16


def new_transaction_id() -> str:
    """Make a delivery's unguessable id: digits, as in the vendor's document."""
    return f"{secrets.randbelow(10**_TRANSACTION_DIGITS):0{_TRANSACTION_DIGITS}}"


_LOOKED_THROUGH = 1000
"""The most of a partner's later jobs in a search for the same segments."""


async def submit(
    conn: AsyncConnection,
    *,
    door: str,
    partner_id: int,
    owner_id: int,
    order: Order,
    blob: str,
    sha256: str,
    file_name: str,
    now_s: float,
    metadata: Mapping[str, Any] | None = None,
    request_id: str | None = None,
    transaction_id: str | None = None,
    size_bytes: int = 0,
) -> Job:
    """
    Submit a delivery.

    `partner_id` delivers, `owner_id` has the audiences; `sha256` and `size_bytes` are of the file
    as delivered; `metadata` is the vendor's validated form, if its answer needs it; `request_id`
    tells equal orders without a form apart; `transaction_id` is already the partner's (`None`: a
    new id).

    Raises:
        segments.model.quota.OverQuota: The partner's quota is used up.

    Returns:
        The new job, the job of the same transaction, or the partner's last job, if unfinished and
        of the same delivery. An existing job does not use `blob`: delete it.
    """
    await _take_turn(conn, partner_id)
    kept_order = msgspec.to_builtins(order)
    if metadata is None:
        metadata = forms_before_0009.metadata_of(kept_order, request_id)
    name = fingerprint(door, owner_id, metadata, sha256)
    same = None
    if transaction_id is not None:
        same = await _first(conn, _jobs.c.transaction_id == transaction_id)
    if same is None:
        same = await _same_as_last(conn, partner_id, name)
    if same is not None:
        return job_of(same)
    await quotas.check_delivery(conn, partner_id, size_bytes, now_s)
    values = {
        "transaction_id": transaction_id or new_transaction_id(),
        "door": door,
        "partner_id": partner_id,
        "owner_id": owner_id,
        "fingerprint": name,
        "blob": blob,
        "file_name": file_name,
        "order": kept_order,
        "metadata": dict(metadata),
        "state": JobState.QUEUED,
        "created_at_s": now_s,
        "delivered_bytes": size_bytes,
    }
    inserted = await conn.execute(insert(_jobs).values(values).returning(_jobs))
    return job_of(inserted.one())


async def keep_plan(conn: AsyncConnection, job: Job) -> None:
    """Save a queued job's report before its first claim."""
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id, _jobs.c.state == JobState.QUEUED)
        .values(report=msgspec.to_builtins(job.report))
    )


async def unfinished_of(conn: AsyncConnection, owner_id: int) -> Sequence[Job]:
    """Return the unfinished jobs of an owner."""
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.owner_id == owner_id, _jobs.c.state.in_(UNFINISHED))
    )
    return [job_of(row) for row in rows]


async def rewrite(conn: AsyncConnection, job: Job) -> None:
    """Save a job, unless a loader runs it."""
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id, _jobs.c.state != JobState.RUNNING)
        .values(
            state=job.state,
            blob=job.blob,
            report=msgspec.to_builtins(job.report),
            error=job.error and job.error[:512],
            finished_at_s=job.finished_at_s,
        )
    )


async def release(conn: AsyncConnection, job: Job) -> bool:
    """Release a held job. Return whether it was held until now."""
    checkpoint = msgspec.structs.replace(job.checkpoint, is_released=True)
    return await _end_hold(
        conn, job, state=JobState.QUEUED, checkpoint=msgspec.to_builtins(checkpoint)
    )


async def refuse(conn: AsyncConnection, job: Job, now_s: float) -> bool:
    """
    End a held job without any change; it then names no file.

    Return whether it was held until now.
    """
    stopped = Stopped(StopReason.NOT_RELEASED, job.report.held_because)
    return await _end_hold(
        conn,
        job,
        state=JobState.FAILED,
        blob=NO_FILE,
        error=str(stopped)[:512],
        finished_at_s=now_s,
    )


async def jobs_after(conn: AsyncConnection, job_id: int, limit: int) -> Sequence[Job]:
    """Return a page of jobs after a number, in order."""
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.id > job_id).order_by(_jobs.c.id).limit(limit)
    )
    return [job_of(row) for row in rows]


async def any_carried(conn: AsyncConnection) -> bool:
    """Tell whether any done job's file is kept for a rebuild."""
    carried = select(_jobs.c.id).where(_jobs.c.state == JobState.DONE, _jobs.c.blob != NO_FILE)
    return await conn.scalar(carried.limit(1)) is not None


async def with_originals(conn: AsyncConnection, after_id: int, limit: int) -> Sequence[Job]:
    """
    Return a page of jobs, after a number, that may keep a file unnecessarily; in order.

    Those with a file as delivered, and failed jobs with any file; a loader may run them: see
    `segments.ingest.ids_only`.
    """
    is_ids = func.coalesce(_jobs.c.report["is_ids"].as_boolean(), false())
    is_of_run = _jobs.c.order["run_id"].as_string().is_not(None)
    rows = await conn.execute(
        select(_jobs)
        .where(
            _jobs.c.id > after_id,
            _jobs.c.blob != NO_FILE,
            or_(_jobs.c.state == JobState.FAILED, not_(or_(is_ids, is_of_run))),
        )
        .order_by(_jobs.c.id)
        .limit(limit)
    )
    return [job_of(row) for row in rows]


async def replace_original(conn: AsyncConnection, was: Job, now: Job) -> bool:
    """
    Replace a job's original by another file, or none; return whether that was done.

    Not if the job's state or file has changed since `was`.
    """
    current = await locked(conn, was.id)
    if current is None or (current.blob, current.state) != (was.blob, was.state):
        return False
    # An audience may have been deleted meanwhile: keep the rest of the report.
    of_file = {"is_ids": now.report.is_ids, "delivered_blob": now.report.delivered_blob}
    report = msgspec.structs.replace(current.report, **of_file)
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == was.id)
        .values(blob=now.blob, report=msgspec.to_builtins(report))
    )
    return True


async def failed_with_files(conn: AsyncConnection, partner_id: int, limit: int) -> Sequence[Job]:
    """Return a partner's failed jobs with a file, latest first."""
    rows = await conn.execute(
        select(_jobs)
        .where(
            _jobs.c.partner_id == partner_id,
            _jobs.c.state == JobState.FAILED,
            _jobs.c.blob != NO_FILE,
        )
        .order_by(_jobs.c.id.desc())
        .limit(limit)
    )
    return [job_of(row) for row in rows]


async def known_blobs(conn: AsyncConnection, names: Collection[str]) -> set[str]:
    """Return those of some thousand names that are jobs' files."""
    return set(await conn.scalars(select(_jobs.c.blob).where(_jobs.c.blob.in_(names))))


async def every_blob(conn: AsyncConnection) -> set[str]:
    """Return the names of all jobs' files; the query suits every revision of the tables."""
    return set(await conn.scalars(select(_jobs.c.blob).where(_jobs.c.blob != NO_FILE)))


def is_of_file(job: Job, sha256: str) -> bool:
    """Tell whether a job's delivered file has this SHA-256."""
    return job.fingerprint == fingerprint(job.door, job.owner_id, job.metadata, sha256)


async def job(conn: AsyncConnection, name: int | str) -> Job | None:
    """Return a job by its number or its transaction id."""
    is_number = isinstance(name, int) or len(name) < _TRANSACTION_DIGITS
    if is_number and not (str(name).isascii() and str(name).isdecimal()):
        return None
    condition = _jobs.c.id == int(name) if is_number else _jobs.c.transaction_id == name
    row = await _first(conn, condition)
    return None if row is None else job_of(row)


async def locked(conn: AsyncConnection, job_id: int) -> Job | None:
    """Return a job, its row locked until the transaction ends."""
    row = (await conn.execute(select(_jobs).where(_jobs.c.id == job_id).with_for_update())).first()
    return None if row is None else job_of(row)


async def jobs(conn: AsyncConnection, limit: int) -> Sequence[Job]:
    """Return the latest jobs, newest first."""
    rows = await conn.execute(select(_jobs).order_by(_jobs.c.id.desc()).limit(limit))
    return [job_of(row) for row in rows]


async def unfinished_before(conn: AsyncConnection, job: Job) -> Sequence[Job]:
    """Return the jobs that a job waits for, oldest first."""
    rows = await conn.execute(
        select(_jobs)
        .where(
            _jobs.c.partner_id == job.partner_id,
            _jobs.c.id < job.id,
            _jobs.c.state.in_(UNFINISHED),
        )
        .order_by(_jobs.c.id)
    )
    return [job_of(row) for row in rows]


async def count_behind(conn: AsyncConnection, job: Job) -> int:
    """Count the partner's unfinished jobs after a job."""
    asked = select(func.count()).where(_is_behind(_jobs.c, job))
    return (await conn.execute(asked)).scalar_one()


async def count_behind_held(conn: AsyncConnection) -> dict[int, int]:
    """Count the partner's unfinished jobs after each held job, if any, by its number."""
    held, later = _jobs.alias(), _jobs.alias()
    asked = (
        select(held.c.id, func.count())
        .join(later, _is_behind(later.c, held.c))
        .where(held.c.state == JobState.HELD)
        .group_by(held.c.id)
    )
    return {row[0]: row[1] for row in await conn.execute(asked)}


def _is_behind(later: Any, job: Any) -> ColumnElement[bool]:
    """Tell whether a job waits for another: `later` are columns, `job` columns or a job."""
    return and_(
        later.partner_id == job.partner_id,
        later.id > job.id,
        later.state.in_(UNFINISHED),
    )


async def held(conn: AsyncConnection) -> Sequence[Job]:
    """Return the held jobs, oldest first."""
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.state == JobState.HELD).order_by(_jobs.c.id)
    )
    return [job_of(row) for row in rows]


async def is_any_later_of_segments(conn: AsyncConnection, job: Job) -> bool:
    """Tell whether the partner has, or may have, a later job of any of the same segments."""
    rows = await conn.execute(
        select(_jobs)
        .where(_jobs.c.partner_id == job.partner_id, _jobs.c.id > job.id)
        .order_by(_jobs.c.id)
        .limit(_LOOKED_THROUGH + 1)
    )
    later = [job_of(row) for row in rows]
    names = {segment.segment_id for segment in job.order.segments}
    return len(later) > _LOOKED_THROUGH or any(
        segment.segment_id in names for each in later for segment in each.order.segments
    )


async def _end_hold(conn: AsyncConnection, job: Job, **values: Any) -> bool:
    ended = await conn.execute(
        update(_jobs).where(_jobs.c.id == job.id, _jobs.c.state == JobState.HELD).values(**values)
    )
    return ended.rowcount == 1


async def _take_turn(conn: AsyncConnection, partner_id: int) -> None:
    """Wait for the partner's other submissions."""
    await conn.execute(
        select(_accounts.c.id)
        .where(_accounts.c.id == partner_id)
        .with_for_update(key_share=True)  # foreign keys stay possible
    )


async def _same_as_last(conn: AsyncConnection, partner_id: int, name: str) -> Row[Any] | None:
    """
    Return a partner's last job, only if it is unfinished and of this delivery.

    In "add, remove, add" the third does not repeat the first.
    """
    last = select(func.max(_jobs.c.id)).where(_jobs.c.partner_id == partner_id).scalar_subquery()
    return await _first(
        conn, _jobs.c.id == last, _jobs.c.fingerprint == name, _jobs.c.state.in_(UNFINISHED)
    )


async def _first(conn: AsyncConnection, *conditions: ColumnElement[bool]) -> Row[Any] | None:
    return (await conn.execute(select(_jobs).where(*conditions).order_by(_jobs.c.id))).first()


def job_of(row: Row[Any]) -> Job:
    """Convert a row to a job."""
    # Plain strings: msgspec refuses the row's own type of name.
    fields = {name: getattr(row, name, None) for name in Job.__struct_fields__}
    fields["checkpoint"] = row.checkpoint or {}
    fields["report"] = row.report or {}
    if row.order is None:
        fields["order"] = forms_before_0009.order_of(row.metadata)
    # The first word of the error: see `Stopped`.
    fields["stop"] = row.error and row.error.partition(":")[0]
    return msgspec.convert(fields, Job, str_keys=True)  # JSON has no other keys
