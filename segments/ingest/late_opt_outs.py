"""
A RESTRICT that comes while a job runs: which of the two was first?

It matters, for each person. A RESTRICT refuses what comes after it and keeps,
unseen, what was there before (Article 18 GDPR), so the same file and the same
request leave different records, depending on whether the job had reached the
person when the request came. The store decides that in passing, id by id, and
only the store can know. So a job that has written all it had to write looks at
the ids of each RESTRICT that was recorded since it began:

    record as the job would leave it    the job was first; noted in the ledger
    anything else                       the RESTRICT was first; nothing to note

A person who is not in the file may be noted as well, and one who held the same
memberships before the job; in either case the two orders leave the same record.
An ERASURE needs no note: it deletes what was there before and refuses what
comes after, so the order makes no difference.

With these notes `segments.upkeep.rebuild` makes the same bytes again. They cost
nothing when nobody opts out, and one lookup for each id that does.
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
    from segments.model.job import Job  # which imports us

_PAGE = 1000


async def note_late(
    ledger: AsyncEngine, redis: Redis, job: "Job", changes: Sequence[Change]
) -> int:
    """
    Note the RESTRICTs that came too late for some ids of a job that has written everything.

    Returns:
        The number of the last opt-out of the ledger: any later one came behind
        the job.
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
            return []  # nothing can be said of it, nor made of it again
        halves = page[: len(page) // 2], page[len(page) // 2 :]
        return [said for half in halves for said in await _late(redis, meta, half, changes)]
    return [
        said for said, record in zip(page, records, strict=True) if _is_reached(record, changes)
    ]


def _is_reached(record: Record, changes: Sequence[Change]) -> bool:
    """Tell whether a job has made these memberships what they are, or might as well have."""
    held = Record(memberships=record.memberships)
    return merged(held, changes)[0] == held
