"""
Records for each id whether a RESTRICT during a job came before or after the job.

A RESTRICT refuses later memberships, and hides earlier ones but keeps them (Article 18 GDPR). So
the order of job and request decides the record, and only the store knows that order. After its last
write, a job reads the records of all ids whose RESTRICT was recorded since it began:

    record as the job would leave it    the job was first; noted in the ledger
    anything else                       the RESTRICT was first; nothing to note

Ids outside the file, or with the same memberships before, may be noted too, without effect. An
ERASURE needs no note: it deletes earlier memberships and refuses later ones.

With these notes, `segments.upkeep.rebuild` reproduces the store byte for byte. They cost a lookup
for each id opted out during a job.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import reading
from segments.ledger.privacy import late_opt_outs, opt_outs
from segments.ledger.privacy.late_opt_outs import Said
from segments.model.record import Change, CorruptRecord, OptOutAction, Record, merged
from segments.store.reader import Meta, read_meta, read_records

if TYPE_CHECKING:
    from segments.model.job import Job  # imports this module

_PAGE = 1000


async def note_late(
    ledger: AsyncEngine, redis: Redis, job: "Job", changes: Sequence[Change]
) -> int:
    """
    Note the RESTRICTs after a finished job had reached their ids.

    Returns:
        The number of the ledger's last opt-out; later ones came after the job.
    """
    async with reading(ledger) as conn:
        until_seq = await opt_outs.last_seq(conn)
    forbidding = frozenset[int]().union(*(change.forbidden_by for change in changes))
    after_seq = job.report.opt_outs_before or 0
    if after_seq >= until_seq or not any(change.is_add for change in changes):
        return until_seq

    meta = await read_meta(redis)
    async with ledger.begin() as conn:
        await late_opt_outs.forget(conn, job.id)
    behind: Said | None = None
    while True:
        async with reading(ledger) as conn:
            page = await late_opt_outs.said_between(
                conn,
                OptOutAction.RESTRICT,
                after_seq,
                until_seq,
                sorted(forbidding),
                behind=behind,
                limit=_PAGE,
            )
        if not page:
            return until_seq
        late = await _late(redis, meta, page, changes)
        async with ledger.begin() as conn:
            await late_opt_outs.note(conn, job.id, late)
        behind = page[-1]


async def _late(
    redis: Redis, meta: Meta, page: Sequence[Said], changes: Sequence[Change]
) -> list[Said]:
    try:
        records = await read_records(redis, meta, [said.id for said in page])
    except CorruptRecord:
        if len(page) == 1:
            return []  # an unreadable record shows no order, and can't be reproduced
        halves = page[: len(page) // 2], page[len(page) // 2 :]
        return [said for half in halves for said in await _late(redis, meta, half, changes)]
    return [
        said for said, record in zip(page, records, strict=True) if _is_reached(record, changes)
    ]


def _is_reached(record: Record, changes: Sequence[Change]) -> bool:
    held = Record(memberships=record.memberships)
    return merged(held, changes)[0] == held
