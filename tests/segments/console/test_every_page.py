"""Every page of the route table in a real browser: as axe-core sees it, wide and narrow."""

from collections.abc import Mapping, Sequence
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from segments.ledger import jobs
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.job import Job, JobState
from segments.model.record import OptOutAction
from segments.model.role import STAFF_ROLES, Role
from segments.projection.opt_outs import record_opt_out
from tests.console import paths_for
from tests.segments.console.test_browser import (
    DESK,
    PHONE,
    Console,
    chromium,
    console,
    enrol,
    log_in,
    look,
    watched,
)
from tests.segments.console.test_pages import BRAKE, delivery

__all__ = ["chromium", "console"]  # fixtures

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("console in a browser")]


@pytest.fixture(scope="module")
def ids(console: Console) -> Mapping[str, Sequence[str]]:
    """What stands in the paths: by their start, up to the parameter."""
    console.do(
        delivery(console.ledger, console.seeded, JobState.HELD, name="held.txt", held_because=BRAKE)
    )
    transactions = [job.transaction_id for job in console.do(_jobs(console))]
    return {
        "/audiences/": [str(console.seeded.shoes.id)],
        "/deliveries/": transactions,
        "/ops/deliveries/": transactions,
        "/ops/partners/": [str(console.seeded.shop.id)],
        "/ops/recipients/": ["dsp-a"],
        "/privacy/requests/": [console.do(_request(console))],
    }


async def _jobs(console: Console) -> Sequence[Job]:
    async with console.ledger.connect() as conn:
        return await jobs.jobs(conn, 100)


async def _request(console: Console) -> str:
    ids = [(IdentifierKind.EMAIL, id_of_email_hash("c" * 64))]
    services = console.served.services
    receipt = await record_opt_out(services.ledger, services.redis, OptOutAction.RESTRICT, ids)
    return receipt.transaction_ids[0]


LOOKS: tuple[tuple[ViewportSize, Literal["light", "dark"]], ...] = (
    (DESK, "light"),
    (PHONE, "dark"),
)


def test_every_page_is_as_axe_core_wants_it(
    console: Console, chromium: Browser, ids: Mapping[str, Sequence[str]]
) -> None:
    url = console.served.url
    complaints: list[str] = []
    for username, roles in (("jane", {Role.PARTNER}), ("otto", set(STAFF_ROLES))):
        with chromium.new_context() as context:
            page = watched(context, complaints)
            log_in(page, url, username)
            if username == "otto":
                enrol(page, console.served)
            page.get_by_role("navigation").first.wait_for()
            for path in paths_for(roles, ids):
                answer = page.goto(url + path)
                assert answer is not None
                assert answer.status == 200, path
                look_twice(page, path)
            assert complaints == []
            for path in ("/nowhere", "/ops" if username == "jane" else "/audiences"):
                page.goto(url + path)
                look_twice(page, f"{path}-{username}")
            complaints.clear()  # Chromium names the status of those two


def look_twice(page: Page, path: str) -> None:
    for size, scheme in LOOKS:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        look(page, f"{path.strip('/').replace('/', '-')}-{scheme}")
