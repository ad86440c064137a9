"""A page and all that it loads weigh little, and cost little, also with a full list."""

import re
import time

import aiohttp
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import audiences, job_audiences
from segments.model.job import JobState, Planned
from segments.model.order import SegmentAction
from segments.model.record import day_of
from segments.model.role import Role
from tests.console import Browser, Served
from tests.ledger_seed import NOW_S, Seeded
from tests.segments.console.test_pages import BRAKE, count, delivery

MAX_BYTES = 60_000
MAX_CPU_S = 0.050
ROWS = 55  # more than a page of a list
STATES = (JobState.DONE, JobState.FAILED, JobState.QUEUED, JobState.HELD)

_LOADED = re.compile(r'<(?:script src|link rel="stylesheet" href)="([^"]+)"')


@pytest.fixture
async def full(console: Served, seeded: Seeded, ledger: AsyncEngine) -> Seeded:
    """A ledger whose lists have more than a page, each audience with a delivery and a count."""
    for n in range(ROWS):
        job = await delivery(
            ledger,
            seeded,
            STATES[n % len(STATES)],
            name=f"winter-collection-2026-11-{n}-of-all-shops.csv.gz",
            held_because=BRAKE,
            rows=686_000 + n,
            valid=686_000,
            bad=n,
            written=418_000,
        )
        async with ledger.begin() as conn:
            added = await audiences.add_audience(
                conn, seeded.shop, seeded.shop, f"Buyers of winter collection {n}", now_s=NOW_S
            )
            planned = Planned(str(n), SegmentAction.ADD, added.id)
            await job_audiences.note(conn, job.id, [planned])
        await count(ledger, seeded._replace(shoes=added), day_of(console.clock()), 123_456 + n)
    return seeded


async def weight_of(browser: Browser, path: str) -> int:
    """Return the bytes on the wire to a browser without a cache; pictures apart."""
    page = await browser.see(path)
    assert page.status == 200, path
    jar = browser.session.cookie_jar
    async with aiohttp.ClientSession(cookie_jar=jar, auto_decompress=False) as session:
        taken = 0
        for each in (path, *_LOADED.findall(page.text)):
            async with session.get(browser.url + each) as answer:
                taken += len(await answer.read())
    return taken


async def test_a_page_weighs_60_kb_at_most(console: Served, full: Seeded) -> None:
    audience = f"/audiences/{full.shoes.id}"
    shops = ("/audiences", "/deliveries", audience, "/upload", "/keys", "/account")
    staffs = ("/ops", "/ops/deliveries", "/ops/audit", "/ops/playground?example", "/ops/partners")
    desks = ("/privacy", "/privacy/trail")
    async with (
        console.user_of(full.shop) as shop,
        console.staff_of(Role.OPERATOR) as ada,
        console.staff_of(Role.PRIVACY) as noor,
    ):
        path_to_bytes = {
            path: await weight_of(browser, path)
            for browser, paths in ((shop, shops), (ada, staffs), (noor, desks))
            for path in paths
        }
    assert {path: size for path, size in path_to_bytes.items() if size > MAX_BYTES} == {}


async def test_a_full_page_costs_50_ms_of_cpu_at_most(console: Served, full: Seeded) -> None:
    """The queries of long lists are measured by tests/segments/ledger/test_list_costs.py."""
    async with console.user_of(full.shop) as shop:
        for path in ("/audiences", "/deliveries"):
            costs_s = []
            for _ in range(5):
                before_s = time.process_time()  # of the browser, too
                assert (await shop.see(path)).status == 200
                costs_s.append(time.process_time() - before_s)
            assert min(costs_s) <= MAX_CPU_S, path
