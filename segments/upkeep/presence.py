"""Keeps a process's row in the ledger, for `rtb-segments doctor` and the console."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import processes
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.processes import RENEWED_EVERY_S, ProcessKind
from segments.runtime.admin_port import Reasons

_LEAVES_WITHIN_S = 2.0


@asynccontextmanager
async def present(
    ledger: AsyncEngine,
    kind: ProcessKind,
    reasons: Reasons,
    *,
    now_s: Callable[[], float] = time.time,
    every_s: float = RENEWED_EVERY_S,
) -> AsyncIterator[None]:
    """
    Keep this process's row while the context lasts; it grows old while the ledger is away.

    `reasons` tells why the process can't do its work, as `/health/ready`.
    """
    row = _Row(ledger, kind, reasons, now_s)
    keeping = asyncio.create_task(row.keep(every_s))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await row.leave()


class _Row:
    def __init__(
        self,
        ledger: AsyncEngine,
        kind: ProcessKind,
        reasons: Reasons,
        now_s: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._kind = kind
        self._reasons = reasons
        self._now_s = now_s
        self._number: int | None = None

    async def keep(self, every_s: float) -> None:
        while True:
            with suppress(*LEDGER_FAILURES):  # readiness reports them
                await self._renew()
            await asyncio.sleep(every_s)

    async def leave(self) -> None:
        if self._number is None:
            return
        with suppress(TimeoutError, *LEDGER_FAILURES):
            async with asyncio.timeout(_LEAVES_WITHIN_S), self._ledger.begin() as conn:
                await processes.leave(conn, self._number)

    async def _renew(self) -> None:
        unready = "; ".join(await self._reasons())
        now_s = self._now_s()
        async with self._ledger.begin() as conn:
            if self._number is None or not await processes.renew(
                conn, self._number, unready, now_s=now_s
            ):
                self._number = await processes.join(
                    conn,
                    self._kind,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    version=version("rtb-segments"),
                    now_s=now_s,
                    unready=unready,
                )
