"""
The first page of a long list costs at most 50 ms of CPU, in us and in the database.

So do the console's pages of them, from the browser's request to its answer, both ends counted.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts
from segments.ledger.audience_list import (
    AudienceFilter,
    audience_page,
    count_by_state,
    numbered_page,
)
from segments.ledger.database.engine import reading
from segments.ledger.job_list import JobFilter, job_page, last_jobs
from segments.ledger.pages import DEFAULT_LIMIT
from segments.ledger.privacy.audit_list import AuditFilter, audit_page
from segments.ledger.tables import audience_counts, audiences, audit, job_audiences, jobs
from segments.model.account import Account, AccountKind
from segments.model.job import JobState
from segments.model.record import began_at_s, day_of
from segments.model.role import Role
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.console import Served, serving_console
from tests.engines import Engine

MANY_JOBS = 100_000
MANY_AUDIENCES = 10_000
AT_ONCE = 500  # a statement ends within the ledger's timeout
TIMES = 10
RUNS = 3
MAX_CPU_S = 0.050

Case = Callable[[AsyncConnection, Account], Awaitable[Any]]

CASES: dict[str, Case] = {
    "all jobs": lambda conn, _: job_page(conn, JobFilter()),
    "an account's jobs": lambda conn, account: job_page(conn, JobFilter(account)),
    "failed jobs": lambda conn, account: job_page(conn, JobFilter(account, [JobState.FAILED])),
    "all held jobs": lambda conn, _: job_page(conn, JobFilter(states=[JobState.HELD])),
    "an audience's jobs": lambda conn, account: job_page(conn, JobFilter(account, audience_id=1)),
    "an audience's failed jobs": lambda conn, account: job_page(
        conn, JobFilter(account, [JobState.HELD], audience_id=1)
    ),
    "an audience's jobs, then": lambda conn, account: job_page(
        conn, JobFilter(account, audience_id=1, until_s=1000)
    ),
    "an audience's jobs by text": lambda conn, account: job_page(
        conn, JobFilter(account, audience_id=1, text="nothing")
    ),
    "old jobs": lambda conn, account: job_page(conn, JobFilter(account, until_s=1000)),
    "all old jobs": lambda conn, _: job_page(conn, JobFilter(until_s=1000)),
    "jobs by text": lambda conn, account: job_page(conn, JobFilter(account, text="nothing")),
    "all jobs by text": lambda conn, _: job_page(conn, JobFilter(text="nothing")),
    "audiences": lambda conn, account: audience_page(conn, AudienceFilter(account)),
    "audiences by text": lambda conn, account: audience_page(
        conn, AudienceFilter(account, text="nothing")
    ),
    "audiences by state": count_by_state,
    "last page of audiences": lambda conn, account: numbered_page(
        conn, AudienceFilter(account), number=MANY_AUDIENCES // 50, size=50
    ),
    "last jobs": lambda conn, _: last_jobs(conn, range(1, 51)),
    "audit": lambda conn, account: audit_page(conn, AuditFilter(account)),
    "audit of a target": lambda conn, _: audit_page(
        conn, AuditFilter(target="none", subject="audience")
    ),
    "audit by act": lambda conn, account: audit_page(conn, AuditFilter(account, what="none")),
}


async def filled(conn: AsyncConnection) -> Account:
    """Fill the ledger with one account's jobs and audiences, half the jobs of audience 1."""
    partner = await accounts.add_account(conn, AccountKind.ADVERTISER, "p", "P", now_s=0)
    whose = {"owner_id": partner.id, "partner_id": partner.id}
    await conn.execute(
        insert(audiences),
        [
            {
                **whose,
                "segment_id": str(n),
                "name": f"Audience {n}",
                "state": "active",
                "created_at_s": n,
                "updated_at_s": n,
            }
            for n in range(MANY_AUDIENCES)
        ],
    )
    report = {"rows": 100, "bad_lines": [[n, "not_a_hash"] for n in range(60)]}
    for start in range(0, MANY_JOBS, AT_ONCE):
        numbers = range(start, start + AT_ONCE)
        await conn.execute(
            insert(jobs),
            [
                {
                    **whose,
                    "transaction_id": f"{n:016}",
                    "door": "sftp",
                    "fingerprint": "f",
                    "blob": f"blob-{n}",
                    "file_name": f"opens-{n}.txt.gz",
                    "metadata": {"partner_id": "x" * 300},
                    "order": {"segments": []},
                    "state": "done" if n % 1000 else "failed",
                    "created_at_s": float(n),
                    "report": report,
                }
                for n in numbers
            ],
        )
        await conn.execute(
            insert(job_audiences),
            [
                {"job_id": n + 1, "audience_id": 1 if n % 2 else 2 + n % 9000, "action": "add"}
                for n in numbers
            ],
        )
        await conn.execute(
            insert(audit),
            [
                {
                    "at_s": float(n),
                    "actor": "command line",
                    "what": "audience add",
                    "result": "done",
                    "scope_id": partner.id,
                    "subjects": [],
                    "times": 1,
                    "target": f"audience {n}",
                    "detail": {"name": "x"},
                }
                for n in numbers
            ],
        )
    await conn.execute(insert(audience_counts), list(counts_of_newest()))
    return partner


def counts_of_newest() -> Iterator[dict[str, Any]]:
    """A census of each day of a month, for the audiences of a first page."""
    today = day_of(time.time())
    for audience_id in range(MANY_AUDIENCES - DEFAULT_LIMIT + 1, MANY_AUDIENCES + 1):
        for day in range(today - 30, today + 1):
            yield {
                "audience_id": audience_id,
                "day": day,
                "counted_at_s": began_at_s(day),
                "members": 500_000 + 1_000 * day,
                "opted_out": 5_000,
                "ends": {str(day + n): 5_000 for n in range(90)},
            }


def cpu_s(backends: Collection[int]) -> float:
    """Return the CPU time of this process, and of a database's server processes."""
    ticks = 0
    for backend in backends:
        stat = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()
        ticks += int(stat[11]) + int(stat[12])
    return time.process_time() + ticks / 100


async def backends_of(ledger: AsyncEngine) -> list[int]:
    """Return PostgreSQL's processes for this ledger; none for SQLite."""
    if ledger.dialect.name != "postgresql":
        return []
    asked = "select pid from pg_stat_activity where datname = current_database()"
    async with reading(ledger) as conn:
        return list(await conn.scalars(text(asked)))


async def costs_of_pages(served: Served, partner: Account) -> dict[str, float]:
    """Return the mean CPU time of pages."""
    name_to_cost_s = {}
    async with served.user_of(partner) as shop, served.staff_of(Role.OPERATOR) as ada:
        for browser, path in (
            (shop, "/audiences"),
            (shop, "/deliveries"),
            (shop, f"/audiences/{MANY_AUDIENCES}"),
            (ada, "/ops"),
            (ada, "/ops/deliveries"),
        ):
            assert (await browser.see(path)).status == 200, path
            backends = await backends_of(served.services.ledger)
            name_to_cost_s[path] = await cost_s(lambda: browser.see(path), backends)  # noqa: B023
    return name_to_cost_s


async def cost_s(ask: Callable[[], Awaitable[Any]], backends: Collection[int]) -> float:
    """Return the mean CPU time of a question, in the best of some runs: others share the caches."""
    costs_s = []
    for _ in range(RUNS):
        before = cpu_s(backends)
        for _ in range(TIMES):
            await ask()
        costs_s.append((cpu_s(backends) - before) / TIMES)
    return min(costs_s)


@pytest.mark.long
@pytest.mark.timeout(900)  # to fill the ledger
async def test_first_pages_of_long_lists_cost_little(
    ledger: AsyncEngine, settings: Settings, valkey: Engine
) -> None:
    async with ledger.begin() as conn:
        partner = await filled(conn)
    is_postgres = ledger.dialect.name == "postgresql"
    async with ledger.connect() as conn:
        # As its daemon does after so many inserts.
        whole = await conn.execution_options(isolation_level="AUTOCOMMIT")
        await whole.execute(text("vacuum analyze" if is_postgres else "analyze"))
    name_to_cost_s: dict[str, float] = {}

    for name, case in CASES.items():
        async with reading(ledger) as conn:
            backends = await backends_of(ledger)
            await case(conn, partner)
            name_to_cost_s[name] = await cost_s(lambda: case(conn, partner), backends)  # noqa: B023
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving_console(settings, ledger, redis) as served:
            name_to_cost_s |= await costs_of_pages(served, partner)

    assert {name: cost for name, cost in name_to_cost_s.items() if cost > MAX_CPU_S} == {}
