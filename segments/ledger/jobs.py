"""
Queries of jobs: taking them in, sharing them out, keeping what becomes of them.

All take a connection, so that several make one transaction.

A partner's files apply in the order in which they came, so of each partner only
the oldest unfinished job can be had; jobs of different partners run side by
side. Whoever claims one holds its lease and extends it with every save. A lease
that ran out is anybody's, and so is one whose owner is seen to be dead: a
process of this machine that was killed need not be waited for.

Every change of a job names the lease's owner. One that lost its lease learns so
when it saves, and stops; what both wrote to the store meanwhile is the same.
"""

import os
import secrets
import socket
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.job import UNFINISHED, Checkpoint, Job, State, fingerprint
from segments.ledger.tables import jobs as _jobs

LEASE_S = 60.0
"""How long a loader may be silent before others take its job."""

_TRANSACTION_DIGITS = 16


class LeaseLost(Exception):
    """Another loader has taken the job over; this one must let go of it."""


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

    Returns:
        The new job, or the unfinished one of the same delivery; then `blob` is
        not that job's and can be deleted.
    """
    name = fingerprint(door, owner_id, metadata, sha256)
    same = await _first(conn, _jobs.c.fingerprint == name, _jobs.c.state.in_(UNFINISHED))
    if same is not None:
        return _job(same)
    values = {
        "transaction_id": f"{secrets.randbelow(10**_TRANSACTION_DIGITS):0{_TRANSACTION_DIGITS}}",
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
    return _job(inserted.one())


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
    candidates = await conn.execute(
        select(_jobs)
        .where(_jobs.c.id.in_(oldest), _jobs.c.state.in_((State.QUEUED, State.RUNNING)))
        .order_by(_jobs.c.id)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer anyway
    )
    for row in candidates:
        is_abandoned = row.state == State.RUNNING
        if is_abandoned and row.lease_until_s > now_s and _may_live(row.lease_owner):
            continue
        checkpoint = _checkpoint(row)
        if is_abandoned:
            checkpoint = msgspec.structs.replace(checkpoint, deaths=checkpoint.deaths + 1)
        taken = await conn.execute(
            update(_jobs)
            .where(_jobs.c.id == row.id, _is_same_lease(row.lease_owner))
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
            return _job(claimed)
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
            error_code=None if job.stop is None else job.stop.code,
            error=job.error and job.error[:512],
            finished_at_s=job.finished_at_s,
        )
    )
    if saved.rowcount != 1:
        raise LeaseLost(f"job {job.id} was taken over")


async def job(conn: AsyncConnection, name: int | str) -> Job | None:
    """Return a job by its number or by its transaction id."""
    is_number = isinstance(name, int) or len(name) < _TRANSACTION_DIGITS
    if is_number and not (str(name).isascii() and str(name).isdecimal()):
        return None
    condition = _jobs.c.id == int(name) if is_number else _jobs.c.transaction_id == name
    row = await _first(conn, condition)
    return None if row is None else _job(row)


async def jobs(conn: AsyncConnection, limit: int) -> Sequence[Job]:
    """Return the latest jobs, the newest first."""
    rows = await conn.execute(select(_jobs).order_by(_jobs.c.id.desc()).limit(limit))
    return [_job(row) for row in rows]


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
    return [_job(row) for row in rows]


@cache
def this_process() -> str:
    """
    Name this process so that no other ever has the same name.

    Host, process namespace, process id and when it started: in containers the
    first three are the same after every restart.
    """
    return f"{_machine()}:{os.getpid()}:{_started_at(os.getpid())}"


def _may_live(process: str) -> bool:
    """Tell whether a process may still be there; of another machine's we can't know."""
    machine, pid, started_at = process.rsplit(":", 2)
    return machine != _machine() or _started_at(int(pid)) == started_at


@cache
def _machine() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        namespace = ""
    return f"{socket.gethostname()}:{namespace}"


def _started_at(pid: int) -> str:
    """Return the kernel's start time of a process; nothing if it is not there or not alive."""
    try:
        # Behind the program's name, which may hold blanks and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _is_same_lease(owner: str | None) -> ColumnElement[bool]:
    return _jobs.c.lease_owner.is_(None) if owner is None else _jobs.c.lease_owner == owner


async def _first(conn: AsyncConnection, *conditions: ColumnElement[bool]) -> Row[Any] | None:
    return (await conn.execute(select(_jobs).where(*conditions).order_by(_jobs.c.id))).first()


def _checkpoint(row: Row[Any]) -> Checkpoint:
    return msgspec.convert(row.checkpoint or {}, Checkpoint)


def _job(row: Row[Any]) -> Job:
    # Plain strings as names: the row's own are of a kind that msgspec refuses.
    fields = {name: getattr(row, name, None) for name in Job.__struct_fields__}
    fields["checkpoint"] = row.checkpoint or {}
    fields["report"] = row.report or {}
    # The first word of the error; see `Stopped`.
    fields["stop"] = row.error and row.error.partition(":")[0]
    return msgspec.convert(fields, Job)
