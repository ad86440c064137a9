"""
Queries of the control plane's processes: the running ones, their start, and their health.

Each renews its row every few seconds and deletes it at its end. A row that is not renewed is of a
process that hangs, was killed, or can't reach the ledger. A host's dead processes lose their rows
when another of their kind starts there, all others after an hour.

Bid listeners know no ledger, and have none.
"""

from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import processes as _processes

RENEWED_EVERY_S = 4
UNSEEN_AFTER_S = 10
_FORGOTTEN_AFTER_S = 3600
_MAX_CHARS = 500


class ProcessKind(StrEnum):
    """The processes that work on the ledger."""

    LOADER = "loader"
    SFTP = "SFTP server"
    REST = "REST doors"
    CONSOLE = "console"


class Process(NamedTuple):
    """A row of `processes`."""

    id: int
    kind: str  # of `ProcessKind`, or of a later release's
    host: str
    pid: int
    version: str
    started_at_s: int
    seen_at_s: int
    unready: str  # why it can't do its work; empty: it can

    def is_unseen(self, now_s: float) -> bool:
        """Tell whether the row was not renewed in time."""
        return now_s - self.seen_at_s > UNSEEN_AFTER_S


_COLUMNS = tuple(_processes.c[name] for name in Process._fields)


async def join(
    conn: AsyncConnection,
    kind: ProcessKind,
    *,
    host: str,
    pid: int,
    version: str,
    now_s: float,
    unready: str = "",
) -> int:
    """Add a process's row, and delete those of dead ones; return its number."""
    seen_at_s = _processes.c.seen_at_s
    is_replaced = and_(
        _processes.c.kind == kind.value,
        _processes.c.host == host,
        or_(_processes.c.pid == pid, seen_at_s < now_s - UNSEEN_AFTER_S),
    )
    await conn.execute(
        delete(_processes).where(or_(seen_at_s < now_s - _FORGOTTEN_AFTER_S, is_replaced))
    )
    row = {
        "kind": kind.value,
        "host": host[:255],
        "pid": pid,
        "version": version,
        "started_at_s": int(now_s),
        "seen_at_s": int(now_s),
        "unready": unready[:_MAX_CHARS],
    }
    inserted = await conn.execute(insert(_processes).values(row).returning(_processes.c.id))
    number: int = inserted.scalar_one()
    return number


async def renew(conn: AsyncConnection, number: int, unready: str, *, now_s: float) -> bool:
    """Renew a process's row; false: another has deleted it."""
    done = await conn.execute(
        update(_processes)
        .where(_processes.c.id == number)
        .values(seen_at_s=int(now_s), unready=unready[:_MAX_CHARS])
    )
    return done.rowcount > 0


async def leave(conn: AsyncConnection, number: int) -> None:
    """Delete a process's row."""
    await conn.execute(delete(_processes).where(_processes.c.id == number))


async def processes(conn: AsyncConnection) -> list[Process]:
    """Return all processes, by kind and host."""
    asked = select(*_COLUMNS).order_by(_processes.c.kind, _processes.c.host, _processes.c.id)
    return [Process(*row) for row in await conn.execute(asked)]
