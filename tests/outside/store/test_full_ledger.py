"""What databases make of a full disk below them, by public reports, tried on our ledgers."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import LedgerAway, open_ledger, reading
from segments.ledger.health import ledger_reasons, write_reasons
from segments.ledger.privacy import opt_outs
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.causes import away_by
from segments.runtime.causes import FULL
from tests.postgres import Postgres
from tests.small_disk import MIB, SmallDisk, mounted

PERSONS_A_TIME = 2000
_numbers = count(1)


@contextmanager
def postgres_on_small_disk() -> Iterator[tuple[Postgres, SmallDisk]]:
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        with mounted(folder, size_bytes=160 * MIB) as disk:
            postgres = Postgres(folder)
            postgres.start()
            try:
                yield postgres, disk
            finally:
                postgres.remove()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def record(ledger: AsyncEngine) -> int:
    """Record opt-outs; return how many."""
    persons = [
        [(IdentifierKind.EMAIL, Id(next(_numbers).to_bytes(16)))] for _ in range(PERSONS_A_TIME)
    ]
    async with ledger.begin() as conn:
        await opt_outs.record(conn, OptOutAction.RESTRICT, persons, None, now_s=time.time())
    return len(persons)


async def held(ledger: AsyncEngine) -> int:
    async with reading(ledger) as conn:
        return int(await conn.scalar(text("select count(*) from data_subject_requests")) or 0)


async def test_full_disk_of_the_database_server_is_said_by_readiness_too() -> None:
    """
    https://github.com/getnora-io/nora/issues/629 and
    https://github.com/ydb-platform/ydb-embedded-ui/issues/1595: writes failed for want of room
    while the check of health, which wrote nothing, said that all was well.
    https://github.com/yinqiwen/ardb/issues/310: once there was room, only a restart helped.
    """
    with postgres_on_small_disk() as (postgres, disk):
        async with open_ledger(postgres.url(postgres.new_database())) as ledger:
            before, acknowledged = await write_reasons(ledger), await record(ledger)
            disk.fill(but_bytes=2 * MIB)
            refused = None
            while refused is None:
                try:
                    acknowledged += await record(ledger)
                except LedgerAway as error:
                    refused = error
            said, unread = await write_reasons(ledger), await ledger_reasons(ledger)
            disk.make_room()
            acknowledged += await record(ledger)
            after, kept = await write_reasons(ledger), await held(ledger)

    assert away_by(refused) == ("the ledger", FULL)
    assert said == ["the ledger is full; make room on its disk"]
    assert (before, unread, after) == ([], [], [])
    assert kept == acknowledged


async def test_log_of_a_large_transaction_gives_its_room_back(tmp_path: Path) -> None:
    """
    https://github.com/daintreehq/daintree/issues/6270 and
    https://github.com/lollipopkit/flutter_server_box/pull/1445: the write-ahead log keeps the size
    of the largest transaction while the service runs, on a disk that has no room for it.
    """
    log = tmp_path / "ledger.db-wal"
    async with open_ledger(f"sqlite+aiosqlite:///{tmp_path}/ledger.db") as ledger:
        async with ledger.begin() as conn:
            await conn.execute(text("create table large (content blob)"))
            await conn.execute(
                text(
                    "with recursive n(i) as (select 1 union select i + 1 from n where i < 16000)"
                    " insert into large select randomblob(1000) from n"
                )
            )
        largest_bytes = log.stat().st_size
        for _ in range(2):
            async with ledger.begin() as conn:
                await conn.execute(text("insert into large values (randomblob(10))"))
        kept_bytes = log.stat().st_size

    assert largest_bytes > 15 * MIB
    assert kept_bytes <= 4 * MIB


async def test_ledger_that_is_opened_on_a_full_disk_is_full_and_opens_once_there_is_room(
    tmp_path: Path,
) -> None:
    """
    https://github.com/elastic/elasticsearch/issues/15333: what was started again on a disk that had
    been full did not come back. https://github.com/stellar/stellar-core/issues/2288: nor did its
    log. SQLite says "disk I/O error" here, for which the disk is not to blame.
    """
    with mounted(tmp_path / "small", size_bytes=4 * MIB) as disk:
        url = f"sqlite+aiosqlite:///{disk.path}/ledger.db"
        async with open_ledger(url) as ledger:
            acknowledged = await record(ledger)
        disk.fill()
        with pytest.raises(LedgerAway) as caught:
            async with open_ledger(url):
                pass
        disk.make_room()
        async with open_ledger(url) as ledger:
            kept = await held(ledger)

    assert away_by(caught.value) == ("the ledger", FULL)
    assert str(caught.value).endswith("is full; make room on its disk")
    assert kept == acknowledged
