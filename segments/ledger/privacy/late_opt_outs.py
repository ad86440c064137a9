"""
Queries of opt-outs recorded while a job ran, and of those too late for it.

`segments.ingest.late_opt_outs` explains them; `segments.upkeep.rebuild` needs them.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Select, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import data_subject_ids, data_subject_requests, late_opt_outs
from segments.model.identity import Id
from segments.model.record import EVERYONE, OptOutAction

_requests = data_subject_requests


class Said(NamedTuple):
    """An id of an opt-out."""

    seq: int
    account_id: int  # `EVERYONE`: global
    id: Id
    bucket_bits: int | None = None  # known bits of the id, its bucket; `None`: all


async def said_between(
    conn: AsyncConnection,
    action: OptOutAction,
    after_seq: int,
    until_seq: int,
    account_ids: Collection[int],
    *,
    behind: Said | None,
    limit: int,
) -> list[Said]:
    """
    Return a page of opt-outs' ids with `after_seq` < seq <= `until_seq`, after the row `behind`.

    The opt-outs are of one action, by these accounts or global.
    """
    asked = _said().where(
        _requests.c.action == action.name,
        _requests.c.seq > after_seq,
        _requests.c.seq <= until_seq,
        or_(_requests.c.account_id.is_(None), _requests.c.account_id.in_(account_ids)),
    )
    return await _page(conn, asked, behind, limit)


async def all_said(conn: AsyncConnection, *, behind: Said | None, limit: int) -> list[Said]:
    """Return a page of all ids of all opt-outs, in the order of their numbers."""
    return await _page(conn, _said(), behind, limit)


async def forget(conn: AsyncConnection, job_id: int) -> None:
    """Delete a job's late opt-outs."""
    await conn.execute(delete(late_opt_outs).where(late_opt_outs.c.job_id == job_id))


async def note(conn: AsyncConnection, job_id: int, late: Iterable[Said]) -> None:
    """Record opt-outs that were too late for a job, each for an id."""
    rows = [{"job_id": job_id, "seq": said.seq, "id": said.id} for said in late]
    if rows:
        await conn.execute(insert(late_opt_outs), rows)


async def noted(conn: AsyncConnection, job_id: int) -> Sequence[tuple[int, Id]]:
    """Return a job's late opt-outs: opt-out's number and id."""
    rows = await conn.execute(
        select(late_opt_outs.c.seq, late_opt_outs.c.id).where(late_opt_outs.c.job_id == job_id)
    )
    return [(seq, Id(id_)) for seq, id_ in rows]


def _said() -> Select[int, int | None, bytes, int | None]:
    id_ = data_subject_ids.c.id
    return (
        select(data_subject_ids.c.seq, _requests.c.account_id, id_, _requests.c.bucket_bits)
        .join(_requests, _requests.c.seq == data_subject_ids.c.seq)
        .order_by(data_subject_ids.c.seq, data_subject_ids.c.id)
    )


async def _page(
    conn: AsyncConnection,
    asked: Select[int, int | None, bytes, int | None],
    behind: Said | None,
    limit: int,
) -> list[Said]:
    if behind is not None:
        seq, id_ = data_subject_ids.c.seq, data_subject_ids.c.id
        asked = asked.where(seq >= behind.seq, or_(seq > behind.seq, id_ > behind.id))
    return [
        Said(row[0], EVERYONE if row[1] is None else row[1], Id(row[2]), row[3])
        for row in await conn.execute(asked.limit(limit))
    ]
