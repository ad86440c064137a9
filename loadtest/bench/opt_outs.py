"""
How fast opt-outs of many persons are recorded and applied: ledger and store, as by a door.

    one request of many ids      a data subject with all hashes that a partner knows of it
    many persons in a call       a list, as `rtb-segments restrict -` takes it
    one id a request             a privacy desk, in sequence

Figures count acknowledged opt-outs, in ledger, on disk and in the store. They are read back and
compared.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, audiences
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.privacy.opt_outs import last_seq
from segments.model.account import AccountKind
from segments.model.identity import ID_BYTES, Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.catalog import catch_up
from segments.projection.opt_outs import record_opt_out, record_opt_outs
from segments.settings import Settings
from segments.store.embedded import opened
from segments.store.reader import read_meta, read_records

IDS_A_REQUEST = 1_000
AUDIENCES = 1_000
"""Of the advertiser: its own ERASURE is given their numbers."""

_CHECKED_AT_ONCE = 10_000


class NotApplied(Exception):
    """An opt-out was acknowledged and is not in force."""


class Measured(NamedTuple):
    """A way of opting out, and its rate."""

    how: str
    ids: int
    took_s: float
    cpu_s: float  # of this process, without the store's and PostgreSQL's

    @property
    def ids_per_s(self) -> float:
        """Ids per second of wall time."""
        return self.ids / self.took_s


@dataclass(frozen=True)
class _Stores:
    ledger: AsyncEngine
    redis: Redis
    account_id: int


async def measure(ids: int, one_by_one: int, ledger_url: str | None) -> list[Measured]:
    """
    Measure each way, in a store and a ledger of its own.

    Args:
        ids: In requests of `IDS_A_REQUEST`.
        one_by_one: Ids in requests of a single id.
        ledger_url: Of an empty PostgreSQL database; `None` for SQLite in a file.

    Raises:
        NotApplied: The store lacks an opt-out.
    """
    async with _stores(ledger_url) as stores:
        many = ids // IDS_A_REQUEST
        return [
            await _measured(stores, f"RESTRICT, {IDS_A_REQUEST:,} ids a request", many, _whole),
            await _measured(stores, f"RESTRICT, {IDS_A_REQUEST:,} persons a call", many, _list),
            await _measured(stores, f"ERASURE, {IDS_A_REQUEST:,} ids a request", many, _erasure),
            await _measured(stores, "RESTRICT, 1 id a request", one_by_one, _single),
            await _measured(stores, "ERASURE of an advertiser, 1 id a request", one_by_one, _own),
        ]


@asynccontextmanager
async def _stores(ledger_url: str | None) -> AsyncIterator[_Stores]:
    with tempfile.TemporaryDirectory(prefix="optouts-") as folder:
        settings = Settings(data_dir=Path(folder), ledger_url=ledger_url, redis_url=None)
        async with (
            open_ledger(settings.ledger_dsn) as ledger,
            opened(settings.redis_url, settings.data_dir) as redis,
        ):
            async with ledger.begin() as conn:
                account = await accounts.add_account(
                    conn, AccountKind.ADVERTISER, f"a{os.getpid()}", "Advertiser", now_s=0
                )
                for number in range(AUDIENCES):
                    await audiences.find_or_create_audience(
                        conn, account, account, str(number), "Segment", now_s=0
                    )
            await catch_up(ledger, redis, settings.expected_ids)
            yield _Stores(ledger, redis, account.id)


_Ids = Sequence[tuple[IdentifierKind, Id]]
_Say = Callable[[_Stores, _Ids], Awaitable[None]]


async def _measured(stores: _Stores, how: str, requests: int, say: _Say) -> Measured:
    count = 1 if how.endswith("1 id a request") else IDS_A_REQUEST
    batches = [
        [(IdentifierKind.EMAIL, Id(os.urandom(ID_BYTES))) for _ in range(count)]
        for _ in range(requests)
    ]
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    for batch in batches:
        await say(stores, batch)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
    await _check(stores, [id_ for batch in batches for _, id_ in batch])
    return Measured(how, requests * count, took_s, cpu_s)


def _new_ids(count: int) -> _Ids:
    return [(IdentifierKind.EMAIL, Id(os.urandom(ID_BYTES))) for _ in range(count)]


async def _whole(stores: _Stores, ids: _Ids) -> None:
    await _said(record_opt_out(stores.ledger, stores.redis, OptOutAction.RESTRICT, ids))


async def _list(stores: _Stores, ids: _Ids) -> None:
    persons = [[id_] for id_ in ids]
    await _said(record_opt_outs(stores.ledger, stores.redis, OptOutAction.RESTRICT, persons))


async def _erasure(stores: _Stores, ids: _Ids) -> None:
    await _said(record_opt_out(stores.ledger, stores.redis, OptOutAction.ERASURE, ids))


_single = _whole


async def _own(stores: _Stores, ids: _Ids) -> None:
    await _said(
        record_opt_out(stores.ledger, stores.redis, OptOutAction.ERASURE, ids, stores.account_id)
    )


async def _said(receipt: Awaitable[object]) -> None:
    waits_because = getattr(await receipt, "waits_because", "")
    if waits_because:
        raise NotApplied(f"an opt-out waits: {waits_because}")


async def _check(stores: _Stores, ids: Sequence[Id]) -> None:
    meta = await read_meta(stores.redis)
    async with reading(stores.ledger) as conn:
        if meta.opt_outs != await last_seq(conn):
            raise NotApplied("the store does not say that it has every opt-out")
    for at in range(0, len(ids), _CHECKED_AT_ONCE):
        records = await read_records(stores.redis, meta, ids[at : at + _CHECKED_AT_ONCE])
        if not all(record.opt_outs for record in records):
            raise NotApplied("the store lacks an opt-out that was acknowledged")


def measure_and_say(
    ids: int, one_by_one: int, ledger_url: str | None, say: Callable[[str], None]
) -> None:
    """
    Measure, and print a table.

    Raises:
        NotApplied: See `measure`.
    """
    say(f"{'':44}{'ids':>9}{'s':>8}{'ids/s':>10}{'CPU us/id':>12}")
    for row in asyncio.run(measure(ids, one_by_one, ledger_url)):
        cpu_us = row.cpu_s / row.ids * 1e6
        say(f"{row.how:44}{row.ids:>9,}{row.took_s:>8.1f}{row.ids_per_s:>10,.0f}{cpu_us:>12,.0f}")
