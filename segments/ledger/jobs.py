"""
Queries of jobs: taking them in, sharing them out, keeping what becomes of them.

All take a connection, so that several make one transaction.

A partner's files apply in the order in which they came, so of each partner only
the oldest unfinished job can be had; jobs of different partners run side by
side. For that, no number of a partner's job may become visible behind a higher
one: whoever submits holds the partner's row until the commit.

Whoever claims a job holds its lease and extends it with every save. A lease
that ran out is anybody's, and so is one whose owner is seen to be dead: a
process of this machine that was killed need not be waited for. Loaders on
several machines go by their own clocks; that these differ by less than a lease
lasts is all that is asked of them.

Every change of a job names the lease's owner. One that lost its lease learns so
when it saves, and stops; what both wrote to the store meanwhile is the same.
"""

import secrets
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, ScalarSelect, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.job import UNFINISHED, Checkpoint, Job, State, fingerprint
from segments.ingest.stop import Stopped, StopReason
from segments.ledger.process import may_live, this_process
from segments.ledger.tables import accounts as _accounts
from segments.ledger.tables import jobs as _jobs

LEASE_S = 60.0
"""How long a loader may be silent before others take its job."""

_TRANSACTION_DIGITS = 16


class LeaseLost(Exception):
    """Another loader has taken the job over; this one must let go of it."""


def new_transaction_id() -> str:
    """Make what a partner calls a delivery: digits, as in the document, and not to be guessed."""
    return f"{secrets.randbelow(10**_TRANSACTION_DIGITS):0{_TRANSACTION_DIGITS}}"


async def submit(
    conn: AsyncConnection,
    *,
    door: str,
    partner_id: int,
    owner_id: int,
    metadata: dict[str, Any],
    blob: str,
    sha256: str,
    file_name: str,
    now_s: float,
    transaction_id: str | None = None,
) -> Job:
    """
    Take a delivery in.

    Args:
        conn: A transaction.
        door: Who took it in.
        partner_id: The account that delivered it.
        owner_id: The account whose audiences it changes.
        metadata: As validated.
        blob: The name of the file's blob.
        sha256: Of the file as delivered.
        file_name: What the partner calls it.
        now_s: When.
        transaction_id: What the partner was told already; `None` to make one.

    Returns:
        The new job, or the one of the same transaction, or the partner's last
        one if that is unfinished and of the same delivery; then `blob` is not
        that job's and can be deleted.
    """
    await _take_turn(conn, partner_id)
    name = fingerprint(door, owner_id, metadata, sha256)
    same = None
    if transaction_id is not None:
        same = await _first(conn, _jobs.c.transaction_id == transaction_id)
    if same is None:
        same = await _same_as_last(conn, partner_id, name)
    if same is not None:
        return job_of(same)
    values = {
        "transaction_id": transaction_id or new_transaction_id(),
        "door": door,
        "partner_id": partner_id,
        "owner_id": owner_id,
        "fingerprint": name,
        "blob": blob,
        "file_name": file_name,
        "metadata": metadata,
        "state": State.QUEUED,
        "created_at_s": now_s,
    }
    inserted = await conn.execute(insert(_jobs).values(values).returning(_jobs))
    return job_of(inserted.one())


async def claim(conn: AsyncConnection, now_s: float, partner_id: int | None = None) -> Job | None:
    """
    Take the oldest job that can be had, and the lease of it.

    Args:
        conn: A transaction.
        now_s: When.
        partner_id: Only a job of this partner; `None` for any.
    """
    of_partner = [] if partner_id is None else [_jobs.c.partner_id == partner_id]
    oldest = (
        select(func.min(_jobs.c.id))
        .where(_jobs.c.state.in_(UNFINISHED), *of_partner)
        .group_by(_jobs.c.partner_id)
    )
    # A look without locks: most of these others are at work on, who save them.
    candidates = await conn.execute(
        select(_jobs)
        .where(_jobs.c.id.in_(oldest), _jobs.c.state.in_((State.QUEUED, State.RUNNING)))
        .order_by(_jobs.c.id)
    )
    for row in candidates:
        is_abandoned = row.state == State.RUNNING
        if is_abandoned and row.lease_until_s > now_s and may_live(row.lease_owner):
            continue
        checkpoint = _checkpoint(row)
        if is_abandoned:
            checkpoint = msgspec.structs.replace(checkpoint, deaths=checkpoint.deaths + 1)
        taken = await conn.execute(
            update(_jobs)
            .where(_jobs.c.id == _still_free(row))
            .values(
                state=State.RUNNING,
                lease_owner=this_process(),
                lease_until_s=now_s + LEASE_S,
                checkpoint=msgspec.to_builtins(checkpoint),
                started_at_s=func.coalesce(_jobs.c.started_at_s, now_s),
            )
            .returning(_jobs)
        )
        claimed = taken.one_or_none()
        if claimed is not None:
            return job_of(claimed)
    return None


async def save(conn: AsyncConnection, job: Job, now_s: float) -> None:
    """
    Keep what a job has become, and extend its lease, or end it with the job.

    Raises:
        LeaseLost: The job is another's now; nothing was changed.
    """
    is_running = job.state is State.RUNNING
    saved = await conn.execute(
        update(_jobs)
        .where(
            _jobs.c.id == job.id,
            _jobs.c.state == State.RUNNING,
            _jobs.c.lease_owner == this_process(),
        )
        .values(
            state=job.state,
            lease_owner=this_process() if is_running else None,
            lease_until_s=now_s + LEASE_S if is_running else None,
            checkpoint=msgspec.to_builtins(job.checkpoint),
            report=msgspec.to_builtins(job.report),
            blob=job.blob,
            error_code=None if job.stop is None else job.stop.code,
            error=job.error and job.error[:512],
            finished_at_s=job.finished_at_s,
        )
    )
    if saved.rowcount != 1:
        raise LeaseLost(f"job {job.id} was taken over")


async def keep_plan(conn: AsyncConnection, job: Job) -> None:
    """Keep the report of a job that nobody works on yet, as far as it can be made before."""
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id, _jobs.c.state == State.QUEUED)
        .values(report=msgspec.to_builtins(job.report))
    )


async def unfinished_of(conn: AsyncConnection, owner_id: int) -> Sequence[Job]:
    """Return the jobs that are still to change an owner's audiences."""
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.owner_id == owner_id, _jobs.c.state.in_(UNFINISHED))
    )
    return [job_of(row) for row in rows]


async def rewrite(conn: AsyncConnection, job: Job) -> None:
    """Keep what became of a job that nobody works on; one that is at work stays as it is."""
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id, _jobs.c.state != State.RUNNING)
        .values(
            state=job.state,
            blob=job.blob,
            report=msgspec.to_builtins(job.report),
            error_code=None if job.stop is None else job.stop.code,
            error=job.error and job.error[:512],
            finished_at_s=job.finished_at_s,
        )
    )


async def release(conn: AsyncConnection, job: Job) -> bool:
    """Let a held job go on, whatever it removes. Return whether it was held, and goes on."""
    checkpoint = msgspec.structs.replace(job.checkpoint, is_released=True)
    return await _end_hold(
        conn, job, state=State.QUEUED, checkpoint=msgspec.to_builtins(checkpoint)
    )


async def refuse(conn: AsyncConnection, job: Job, now_s: float) -> bool:
    """End a held job without carrying it out. Return whether it was held, and is over."""
    stopped = Stopped(StopReason.NOT_RELEASED, job.report.held_because)
    return await _end_hold(
        conn,
        job,
        state=State.FAILED,
        error_code=stopped.reason.code,
        error=str(stopped)[:512],
        finished_at_s=now_s,
    )


async def running(conn: AsyncConnection, now_s: float) -> Sequence[Job]:
    """Return the jobs that a loader works on, so far as can be known, the oldest first."""
    rows = await conn.execute(select(_jobs).where(_jobs.c.state == State.RUNNING))
    return sorted(
        (job_of(row) for row in rows if row.lease_until_s > now_s and may_live(row.lease_owner)),
        key=lambda job: job.id,
    )


async def jobs_after(conn: AsyncConnection, job_id: int, limit: int) -> Sequence[Job]:
    """Return the jobs behind one, in their order, page by page."""
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.id > job_id).order_by(_jobs.c.id).limit(limit)
    )
    return [job_of(row) for row in rows]


async def known_blobs(conn: AsyncConnection, names: Collection[str]) -> set[str]:
    """Return those of some thousand names that a job gives to its file."""
    return set(await conn.scalars(select(_jobs.c.blob).where(_jobs.c.blob.in_(names))))


async def job(conn: AsyncConnection, name: int | str) -> Job | None:
    """Return a job by its number or by its transaction id."""
    is_number = isinstance(name, int) or len(name) < _TRANSACTION_DIGITS
    if is_number and not (str(name).isascii() and str(name).isdecimal()):
        return None
    condition = _jobs.c.id == int(name) if is_number else _jobs.c.transaction_id == name
    row = await _first(conn, condition)
    return None if row is None else job_of(row)


async def jobs(conn: AsyncConnection, limit: int) -> Sequence[Job]:
    """Return the latest jobs, the newest first."""
    rows = await conn.execute(select(_jobs).order_by(_jobs.c.id.desc()).limit(limit))
    return [job_of(row) for row in rows]


async def unfinished_before(conn: AsyncConnection, job: Job) -> Sequence[Job]:
    """Return the jobs that this one waits for, the oldest first."""
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


async def _end_hold(conn: AsyncConnection, job: Job, **values: Any) -> bool:
    ended = await conn.execute(
        update(_jobs).where(_jobs.c.id == job.id, _jobs.c.state == State.HELD).values(**values)
    )
    return ended.rowcount == 1


async def _take_turn(conn: AsyncConnection, partner_id: int) -> None:
    """Wait for other transactions that submit jobs of a partner; SQLite has one writer anyway."""
    await conn.execute(
        select(_accounts.c.id)
        .where(_accounts.c.id == partner_id)
        .with_for_update(key_share=True)  # others may go on to refer to the partner
    )


def _still_free(seen: Row[Any]) -> ScalarSelect[int]:
    """Select a job that is as it was seen; nothing if another changes it at this moment."""
    return (
        select(_jobs.c.id)
        .where(
            _jobs.c.id == seen.id,
            _jobs.c.state == seen.state,
            _jobs.c.lease_owner.is_not_distinct_from(seen.lease_owner),
            _jobs.c.lease_until_s.is_not_distinct_from(seen.lease_until_s),
        )
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


async def _same_as_last(conn: AsyncConnection, partner_id: int, name: str) -> Row[Any] | None:
    """
    Return a partner's last job if it is unfinished and of this delivery.

    Only the last: of "add, remove, add" the third is no repetition of the first.
    """
    last = select(func.max(_jobs.c.id)).where(_jobs.c.partner_id == partner_id).scalar_subquery()
    return await _first(
        conn, _jobs.c.id == last, _jobs.c.fingerprint == name, _jobs.c.state.in_(UNFINISHED)
    )


async def _first(conn: AsyncConnection, *conditions: ColumnElement[bool]) -> Row[Any] | None:
    return (await conn.execute(select(_jobs).where(*conditions).order_by(_jobs.c.id))).first()


def _checkpoint(row: Row[Any]) -> Checkpoint:
    return msgspec.convert(row.checkpoint or {}, Checkpoint)


def job_of(row: Row[Any]) -> Job:
    """Return the job that a row of the ledger is."""
    # Plain strings as names: the row's own are of a kind that msgspec refuses.
    fields = {name: getattr(row, name, None) for name in Job.__struct_fields__}
    fields["checkpoint"] = row.checkpoint or {}
    fields["report"] = row.report or {}
    # The first word of the error; see `Stopped`.
    fields["stop"] = row.error and row.error.partition(":")[0]
    return msgspec.convert(fields, Job)
