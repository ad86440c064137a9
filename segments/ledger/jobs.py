"""
Queries of jobs: taking deliveries in, and telling what has become of them.

All take a connection, so that several make one transaction.

A partner's files apply in the order of their jobs' numbers. For that, no number of
a partner's job may become visible behind a higher one: whoever submits holds the
partner's row until the commit.

Which loader has a job, and what it may change of it, is `segments.ledger.job_leases`' law.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, false, func, insert, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.migrations import forms_before_0009
from segments.ledger.tables import accounts as _accounts
from segments.ledger.tables import jobs as _jobs
from segments.model.job import NO_FILE, UNFINISHED, Job, JobState, fingerprint
from segments.model.order import Order
from segments.model.stop_reason import Stopped, StopReason

_TRANSACTION_DIGITS = 16


def new_transaction_id() -> str:
    """Make what a partner calls a delivery: digits, as in the document, and not to be guessed."""
    return f"{secrets.randbelow(10**_TRANSACTION_DIGITS):0{_TRANSACTION_DIGITS}}"


_LOOKED_THROUGH = 1000
"""Jobs of a partner behind one, at most, in which the same segments are looked for."""


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
) -> Job:
    """
    Take a delivery in.

    Args:
        conn: A transaction.
        door: Who took it in.
        partner_id: The account that delivered it.
        owner_id: The account whose audiences it changes.
        order: What it asks for.
        blob: The name of the file's blob.
        sha256: Of the file as delivered.
        file_name: What the partner calls it.
        now_s: When.
        metadata: The vendor's form, validated, where an answer is made from it.
        request_id: Of a delivery without one: what its door calls it, by which it is another
            than one that asks for the same.
        transaction_id: What the partner was told already; `None` to make one.

    Returns:
        The new job, or the one of the same transaction, or the partner's last
        one if that is unfinished and of the same delivery; then `blob` is not
        that job's and can be deleted.
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
    }
    inserted = await conn.execute(insert(_jobs).values(values).returning(_jobs))
    return job_of(inserted.one())


async def keep_plan(conn: AsyncConnection, job: Job) -> None:
    """Keep the report of a job that nobody works on yet, as far as it can be made before."""
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id, _jobs.c.state == JobState.QUEUED)
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
    """Let a held job go on, whatever it removes. Return whether it was held, and goes on."""
    checkpoint = msgspec.structs.replace(job.checkpoint, is_released=True)
    return await _end_hold(
        conn, job, state=JobState.QUEUED, checkpoint=msgspec.to_builtins(checkpoint)
    )


async def refuse(conn: AsyncConnection, job: Job, now_s: float) -> bool:
    """
    End a held job without carrying it out; its file is named by nothing then.

    Returns:
        Whether it was held, and is over.
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
    """Return the jobs behind one, in their order, page by page."""
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.id > job_id).order_by(_jobs.c.id).limit(limit)
    )
    return [job_of(row) for row in rows]


async def with_originals(conn: AsyncConnection, after_id: int, limit: int) -> Sequence[Job]:
    """
    Return jobs, behind one, that may keep a file that they need not; page by page, in order.

    These are the ones that keep a file as it came, and those that failed and keep any. Who
    is at work on one is not asked: see `segments.ingest.ids_only`.
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
    Give a job that nobody works on another file, or none, in its original's place.

    Returns:
        Whether it was done. Not, if a loader is at work on it, or somebody else has
        given it another file.
    """
    current = await locked(conn, was.id)
    if current is None or (current.blob, current.state) != (was.blob, was.state):
        return False
    # Of its report nothing else: an audience may have been deleted while the file was read.
    of_file = {"is_ids": now.report.is_ids, "delivered_blob": now.report.delivered_blob}
    report = msgspec.structs.replace(current.report, **of_file)
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == was.id)
        .values(blob=now.blob, report=msgspec.to_builtins(report))
    )
    return True


async def failed_with_files(conn: AsyncConnection, partner_id: int, limit: int) -> Sequence[Job]:
    """Return a partner's jobs that failed and still keep a file, the latest first."""
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
    """Return those of some thousand names that a job gives to its file."""
    return set(await conn.scalars(select(_jobs.c.blob).where(_jobs.c.blob.in_(names))))


def is_of_file(job: Job, sha256: str) -> bool:
    """Tell whether a file with this SHA-256 is the one that a job carries, as it was delivered."""
    return job.fingerprint == fingerprint(job.door, job.owner_id, job.metadata, sha256)


async def job(conn: AsyncConnection, name: int | str) -> Job | None:
    """Return a job by its number or by its transaction id."""
    is_number = isinstance(name, int) or len(name) < _TRANSACTION_DIGITS
    if is_number and not (str(name).isascii() and str(name).isdecimal()):
        return None
    condition = _jobs.c.id == int(name) if is_number else _jobs.c.transaction_id == name
    row = await _first(conn, condition)
    return None if row is None else job_of(row)


async def locked(conn: AsyncConnection, job_id: int) -> Job | None:
    """Return a job for `rewrite`: nobody gives it another file before the transaction is over."""
    row = (await conn.execute(select(_jobs).where(_jobs.c.id == job_id).with_for_update())).first()
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


async def count_behind(conn: AsyncConnection, job: Job) -> int:
    """Count the jobs that wait for this one, or for others behind it."""
    asked = select(func.count()).where(
        _jobs.c.partner_id == job.partner_id,
        _jobs.c.id > job.id,
        _jobs.c.state.in_(UNFINISHED),
    )
    return (await conn.execute(asked)).scalar_one()


async def held(conn: AsyncConnection) -> Sequence[Job]:
    """Return the jobs that wait for a person, the oldest first."""
    rows = await conn.execute(
        select(_jobs).where(_jobs.c.state == JobState.HELD).order_by(_jobs.c.id)
    )
    return [job_of(row) for row in rows]


async def is_any_later_of_segments(conn: AsyncConnection, job: Job) -> bool:
    """
    Tell whether its partner has a later job that names one of the same segments.

    So do more later jobs than are looked through.
    """
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
    """Wait for other transactions that submit jobs of a partner; SQLite has one writer anyway."""
    await conn.execute(
        select(_accounts.c.id)
        .where(_accounts.c.id == partner_id)
        .with_for_update(key_share=True)  # others may go on to refer to the partner
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


def job_of(row: Row[Any]) -> Job:
    """Return the job that a row of the ledger is."""
    # Plain strings as names: the row's own are of a kind that msgspec refuses.
    fields = {name: getattr(row, name, None) for name in Job.__struct_fields__}
    fields["checkpoint"] = row.checkpoint or {}
    fields["report"] = row.report or {}
    if row.order is None:
        fields["order"] = forms_before_0009.order_of(row.metadata)
    # The first word of the error; see `Stopped`.
    fields["stop"] = row.error and row.error.partition(":")[0]
    return msgspec.convert(fields, Job)
