"""The rows of the control plane's processes."""

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import processes
from segments.ledger.processes import ProcessKind

NOW_S = 1_793_000_000.0


async def join(
    ledger: AsyncEngine,
    *,
    kind: ProcessKind = ProcessKind.LOADER,
    host: str = "a",
    pid: int = 7,
    now_s: float = NOW_S,
) -> int:
    async with ledger.begin() as conn:
        return await processes.join(conn, kind, host=host, pid=pid, version="0.2.0", now_s=now_s)


async def shown(ledger: AsyncEngine) -> list[tuple[str, str, int]]:
    async with ledger.connect() as conn:
        return [(each.kind, each.host, each.pid) for each in await processes.processes(conn)]


async def test_a_process_is_there_from_its_start_to_its_end(ledger: AsyncEngine) -> None:
    number = await join(ledger)
    async with ledger.begin() as conn:
        assert await processes.renew(conn, number, "store down" + "." * 1000, now_s=NOW_S + 4)
        (row,) = await processes.processes(conn)
    assert (row.started_at_s, row.seen_at_s) == (NOW_S, NOW_S + 4)
    assert row.unready.startswith("store down")
    assert not row.is_unseen(NOW_S + 14)
    assert row.is_unseen(NOW_S + 15)

    async with ledger.begin() as conn:
        await processes.leave(conn, number)
        assert not await processes.renew(conn, number, "", now_s=NOW_S)
    assert await shown(ledger) == []


async def test_a_successor_takes_the_row_of_a_dead_process_of_its_host_and_kind(
    ledger: AsyncEngine,
) -> None:
    await join(ledger)
    await join(ledger, pid=8, now_s=NOW_S + 5)  # another one beside it
    await join(ledger, host="b")
    await join(ledger, kind=ProcessKind.REST)
    await join(ledger, pid=9, now_s=NOW_S + 12)

    assert await shown(ledger) == [
        ("REST doors", "a", 7),
        ("loader", "a", 8),
        ("loader", "a", 9),
        ("loader", "b", 7),
    ]


async def test_the_rows_of_vanished_hosts_go_after_an_hour(ledger: AsyncEngine) -> None:
    await join(ledger, host="gone")
    await join(ledger, now_s=NOW_S + 3600)
    assert len(await shown(ledger)) == 2

    await join(ledger, now_s=NOW_S + 3601, kind=ProcessKind.SFTP)
    assert await shown(ledger) == [("SFTP server", "a", 7), ("loader", "a", 7)]
