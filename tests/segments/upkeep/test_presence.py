"""A process keeps its row while it runs, also over an absence of the row."""

import asyncio
import os
from collections.abc import Sequence

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import processes
from segments.ledger.processes import Process, ProcessKind
from segments.ledger.tables import processes as table
from segments.upkeep.presence import present

WITHIN_S = 30


class Reasons:
    """Counts how often it was asked: each time, the row of the time before is written."""

    def __init__(self) -> None:
        self.why: list[str] = []
        self._asked = asyncio.Condition()
        self._times = 0

    async def __call__(self) -> Sequence[str]:
        async with self._asked:
            self._times += 1
            self._asked.notify_all()
        return self.why

    async def written(self) -> None:
        """Wait until a row that begins after this moment is written."""
        async with asyncio.timeout(WITHIN_S), self._asked:
            wanted = self._times + 2
            await self._asked.wait_for(lambda: self._times >= wanted)


async def rows(ledger: AsyncEngine) -> list[Process]:
    async with ledger.connect() as conn:
        return await processes.processes(conn)


async def test_a_row_is_renewed_with_the_reasons_and_deleted_at_the_end(
    ledger: AsyncEngine,
) -> None:
    reasons = Reasons()
    async with present(ledger, ProcessKind.LOADER, reasons, every_s=0.01):
        await reasons.written()
        (row,) = await rows(ledger)
        assert (row.kind, row.pid, row.unready) == ("loader", os.getpid(), "")

        reasons.why = ["store down", "opt-outs wait"]
        async with ledger.begin() as conn:
            await conn.execute(delete(table))
        await reasons.written()
        (row,) = await rows(ledger)
        assert row.unready == "store down; opt-outs wait"
    assert await rows(ledger) == []
