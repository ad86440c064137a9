"""
The memberships that the ledger expects in the store, from the reports of its jobs.

    added less removed, of each job that is done    whose audiences are not deleted,
                                                    whose memberships have not expired

The store's number differs: less by ERASED memberships, more by memberships that a later file
renewed after their job's expiry. A job's segments share its sum equally.
"""

from collections import Counter
from typing import NamedTuple

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import audiences
from segments.ledger.database.engine import reading
from segments.ledger.tables import jobs as _jobs
from segments.model.audience import AudienceState
from segments.model.job import JobState, Report
from segments.model.record import NO_EXPIRY, day_of

_PAGE = 500
_AGAIN_S = 3600.0
"""How far back to look for jobs finished by another loader's clock."""


class _Kind(NamedTuple):
    audience_id: int
    expiry_day: int


class ExpectedMemberships:
    """Sums up the done jobs, each once, for a process that asks repeatedly."""

    def __init__(self, ledger: AsyncEngine) -> None:
        self._ledger = ledger
        self._kind_to_memberships: Counter[_Kind] = Counter()
        # Never forgotten: a job lost by the store is done a second time, hours later.
        self._counted: set[int] = set()
        self._last_s = 0.0

    async def look(self, now_s: float) -> float:
        """
        Return the expected number of memberships; `now_s` may be set back.

        Raises:
            segments.ledger.database.errors.LedgerAway: The ledger can't be read.
        """
        after_s, after_id = min(self._last_s, now_s) - _AGAIN_S, 0
        while True:
            async with reading(self._ledger) as conn:
                page = await _done(conn, after_s, after_id)
            for job_id, finished_at_s, report in page:
                if job_id not in self._counted:
                    self._counted.add(job_id)
                    self._last_s = max(self._last_s, finished_at_s)
                    self._add(report)
                after_id = job_id
            if len(page) < _PAGE:
                break
        async with reading(self._ledger) as conn:
            gone = {
                each.id
                for each in await audiences.audiences(conn)
                if each.state is AudienceState.DELETED
            }
        today = day_of(now_s)
        return max(
            0.0,
            sum(
                memberships
                for kind, memberships in self._kind_to_memberships.items()
                if kind.audience_id not in gone
                and (kind.expiry_day == NO_EXPIRY or kind.expiry_day > today)
            ),
        )

    def _add(self, report: Report) -> None:
        planned = [each for each in report.segments if each.audience_id is not None]
        for each in planned:
            kind = _Kind(each.audience_id or 0, each.expiry_day)
            share = (report.added - report.removed) / len(planned)
            self._kind_to_memberships[kind] += share  # type: ignore[assignment] # shares add up


async def _done(
    conn: AsyncConnection, after_s: float, after_id: int
) -> list[tuple[int, float, Report]]:
    rows = await conn.execute(
        select(_jobs.c.id, _jobs.c.finished_at_s, _jobs.c.report)
        .where(
            _jobs.c.state == JobState.DONE,
            _jobs.c.finished_at_s >= after_s,
            _jobs.c.id > after_id,
        )
        .order_by(_jobs.c.id)
        .limit(_PAGE)
    )
    return [
        (row.id, row.finished_at_s, msgspec.convert(row.report or {}, Report, str_keys=True))
        for row in rows
    ]
