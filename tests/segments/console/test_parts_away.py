"""While the store is away pages work, and an act that needs it says so; the ledger: one page."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.model.job import JobState
from segments.model.role import Role
from segments.settings import Settings
from tests.console import Browser, Served, paths_for
from tests.engines import Engine
from tests.ledger_seed import Seeded
from tests.postgres import Postgres
from tests.segments.console.test_pages import BRAKE, delivery
from tests.segments.console.test_partner_admin import admin_of
from tests.segments.console.test_privacy import ask, look_up, transaction_of

EMAIL_HASH = "a" * 64

Browsers = Mapping[Role, tuple[Browser, Sequence[str]]]


@pytest.fixture
def ledger_settings(postgres_settings: Settings) -> Settings:
    """PostgreSQL: SQLite is a file of this machine's, and never away."""
    return postgres_settings


@pytest.fixture
async def browsers(console: Served, seeded: Seeded, ledger: AsyncEngine) -> AsyncIterator[Browsers]:
    """A browser of each role, and the paths of its pages."""
    held = await delivery(ledger, seeded, JobState.HELD, held_because=BRAKE)
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(admin_of(console, seeded.shop))
        ada = await stack.enter_async_context(console.staff_of(Role.OPERATOR))
        noor = await stack.enter_async_context(console.staff_of(Role.PRIVACY))
        ids = {
            "/audiences/": [str(seeded.shoes.id)],
            "/deliveries/": [held.transaction_id],
            "/ops/deliveries/": [held.transaction_id],
            "/ops/partners/": [str(seeded.shop.id)],
            "/ops/recipients/": ["dsp-a"],
            "/privacy/requests/": [transaction_of(await ask(noor, "RESTRICT", EMAIL_HASH))],
        }
        role_to_browser = {Role.PARTNER: shop, Role.OPERATOR: ada, Role.PRIVACY: noor}
        yield {
            role: (browser, list(paths_for({role}, ids)))
            for role, browser in role_to_browser.items()
        }


async def test_without_the_store_pages_work(
    browsers: Browsers, seeded: Seeded, valkey: Engine
) -> None:
    valkey.stop()
    for browser, paths in browsers.values():
        for path in paths:
            shown = await browser.see(path)
            assert shown.status == (303 if path == "/" else 200), (path, shown.said)

    noor, _ = browsers[Role.PRIVACY]
    found = await look_up(noor, EMAIL_HASH)
    assert (found.status, "The store can't be read" in found.said) == (200, True), found.said
    waits = await ask(noor, "RESTRICT", "b" * 64)
    assert "RESTRICT is recorded for good, and not in force yet" in waits.said
    shop, _ = browsers[Role.PARTNER]
    hidden = await shop.send(f"/audiences/{seeded.shoes.id}/deactivate")
    assert hidden.location.endswith("?done=recorded"), hidden.said


async def test_without_the_ledger_there_is_one_page(browsers: Browsers, postgres: Postgres) -> None:
    postgres.stop()
    for browser, paths in browsers.values():
        for path in paths:
            shown = await browser.see(path)
            assert (shown.status, "Away at the moment" in shown.said) == (503, True), path
            assert "The ledger" in shown.said
            assert shown.headers["Retry-After"] == "2"
