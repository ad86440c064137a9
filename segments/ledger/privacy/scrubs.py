"""
Queries of the scrubbing of files: due files, ids to scrub, results.

A job stands for its file: each job has its own.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import jobs as _of_jobs
from segments.ledger.clocks import CLOCKS_DIFFER_S
from segments.ledger.privacy.late_opt_outs import Said, said_between
from segments.ledger.tables import data_subject_requests as _requests
from segments.ledger.tables import jobs as _jobs
from segments.ledger.tables import retired_blobs as _retired
from segments.model.identity import Id
from segments.model.job import NO_FILE, Job, JobState, Scrubbed
from segments.model.record import OptOutAction

_IDS_AT_ONCE = 50_000


class Due(NamedTuple):
    """A file scrubbed only of erasures up to a number."""

    job: Job
    scrubbed_seq: int


async def last_erasure(conn: AsyncConnection) -> int:
    """Return the number of the last ERASURE; 0 if there is none."""
    asked = select(func.max(_requests.c.seq)).where(_requests.c.action == OptOutAction.ERASURE.name)
    return await conn.scalar(asked) or 0


async def due(
    conn: AsyncConnection,
    until_seq: int,
    before_s: float,
    *,
    after_job_id: int,
    limit: int,
    now_s: float,
) -> list[Due]:
    """
    Return a page of files not scrubbed of all erasures up to `until_seq`, after a job's number.

    Only files last looked at, or delivered, by `before_s`; or dated in the future.
    """
    looked_at_s = func.coalesce(_jobs.c.scrubbed_at_s, _jobs.c.created_at_s)
    rows = await conn.execute(
        select(_jobs.c.id, _jobs.c.scrubbed_seq)
        .where(
            _jobs.c.scrubbed_seq < until_seq,
            _jobs.c.blob != NO_FILE,
            or_(looked_at_s <= before_s, looked_at_s > now_s + CLOCKS_DIFFER_S),
            _jobs.c.id > after_job_id,
        )
        .order_by(_jobs.c.id)
        .limit(limit)
    )
    found = [(await _of_jobs.job(conn, job_id), seq) for job_id, seq in rows.all()]
    return [Due(job, seq) for job, seq in found if job is not None]


async def erased_ids(
    conn: AsyncConnection, after_seq: int, until_seq: int, account_ids: Collection[int]
) -> dict[int | None, list[Id]]:
    """
    Return erased ids with `after_seq` < seq <= `until_seq`, of `account_ids` or global.

    The key is the known bits of ids taken over from a store; `None`: ids known in full.
    """
    bits_to_ids: dict[int | None, list[Id]] = {}
    behind: Said | None = None
    while page := await said_between(
        conn,
        OptOutAction.ERASURE,
        after_seq,
        until_seq,
        account_ids,
        behind=behind,
        limit=_IDS_AT_ONCE,
    ):
        for said in page:
            bits_to_ids.setdefault(said.bucket_bits, []).append(said.id)
        behind = page[-1]
    return bits_to_ids


async def seen_to(conn: AsyncConnection, job: Job, until_seq: int, now_s: float) -> None:
    """Record that a job's file holds no id of an ERASURE up to a number."""
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id, _jobs.c.blob == job.blob)
        .values(scrubbed_seq=until_seq, scrubbed_at_s=now_s)
    )


async def put_off(conn: AsyncConnection, job: Job, now_s: float) -> None:
    """Record a failed attempt to scrub a job's file."""
    await conn.execute(update(_jobs).where(_jobs.c.id == job.id).values(scrubbed_at_s=now_s))


async def replace_file(
    conn: AsyncConnection,
    job: Job,
    until_seq: int,
    *,
    blob: str,
    scrubbed: Scrubbed,
    now_s: float,
) -> bool:
    """
    Give a job a file without ids of ERASUREs up to `until_seq`, and retire its former file.

    `job` is as of the reading of its file. `blob` is the new file, or the former if none is new.

    Returns:
        Whether it was done: not if a loader runs the job, or its file has changed.
    """
    values = {
        "blob": blob,
        "scrubbed_seq": until_seq,
        "scrubbed_at_s": now_s,
        "scrubbed": msgspec.to_builtins(scrubbed),
    }
    done = await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == job.id, _jobs.c.blob == job.blob, _jobs.c.state != JobState.RUNNING)
        .values(values)
    )
    if done.rowcount != 1:
        return False
    await retire(conn, [job.blob])
    return True


async def retire(conn: AsyncConnection, names: Iterable[str]) -> None:
    """Mark files without a job for deletion."""
    for name in set(names):
        if await conn.scalar(select(_retired.c.name).where(_retired.c.name == name)) is None:
            await conn.execute(insert(_retired).values(name=name))


async def retired(conn: AsyncConnection) -> list[str]:
    """Return the names of all files still to be deleted."""
    return list(await conn.scalars(select(_retired.c.name)))


async def deleted(conn: AsyncConnection, name: str) -> None:
    """Record that a file is deleted."""
    await conn.execute(delete(_retired).where(_retired.c.name == name))
