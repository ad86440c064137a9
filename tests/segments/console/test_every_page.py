"""
Every page of the route table in a real browser, as axe-core sees it.

Full: wide and narrow, light and dark. Without the store, and empty: wide light, narrow dark.
"""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from segments.ledger import jobs
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.job import Job, JobState
from segments.model.record import OptOutAction
from segments.model.role import STAFF_ROLES, Role
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from tests.console import paths_for
from tests.engines import Engine
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


Looks = Sequence[tuple[ViewportSize, Literal["light", "dark"]]]

TWO_LOOKS: Looks = ((DESK, "light"), (PHONE, "dark"))
OTHER_LOOKS: Looks = ((DESK, "dark"), (PHONE, "light"))


@pytest.mark.parametrize("looks", [TWO_LOOKS, OTHER_LOOKS], ids=["wide light", "wide dark"])
def test_every_page_is_as_axe_core_wants_it(
    console: Console, chromium: Browser, ids: Mapping[str, Sequence[str]], looks: Looks
) -> None:
    _, scheme = looks[0]
    look_at_all(console, chromium, ids, looks, name=f"wide-{scheme}-")


def test_pages_without_the_store_are_as_axe_core_wants_them(
    console: Console, chromium: Browser, ids: Mapping[str, Sequence[str]]
) -> None:
    console.store.stop()
    try:
        look_at_all(console, chromium, ids, TWO_LOOKS, name="without-store-")
    finally:
        console.store.start()


def test_empty_pages_are_as_axe_core_wants_them(
    chromium: Browser,
    valkey: Engine,
    migrated_file: Path,
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, expected_ids=10_000)
    shutil.copy2(migrated_file, tmp_path)
    with Console(settings, valkey, is_new=True) as new:
        look_at_all(new, chromium, defaultdict(list), TWO_LOOKS, name="empty-")


def look_at_all(
    console: Console,
    chromium: Browser,
    ids: Mapping[str, Sequence[str]],
    looks: Looks,
    *,
    name: str,
) -> None:
    """See all pages as a partner's admin and as new staff; none may complain."""
    url = console.served.url
    complaints: list[str] = []
    staff = f"{name}staff"
    console.do(console.served.member(staff, *STAFF_ROLES))
    for username, roles in (("jane", {Role.PARTNER}), (staff, set(STAFF_ROLES))):
        with chromium.new_context() as context:
            page = watched(context, complaints)
            log_in(page, url, username)
            if username == staff:
                enrol(page, console.served)
            page.get_by_role("navigation").first.wait_for()
            for path in paths_for(roles, ids):
                answer = page.goto(url + path)
                assert answer is not None
                assert answer.status == 200, path
                look_each_way(page, f"{name}{path.strip('/').replace('/', '-')}", looks)
            assert complaints == []
            for path in ("/nowhere", "/ops" if username == "jane" else "/audiences"):
                page.goto(url + path)
                look_each_way(page, f"{name}{path.strip('/')}-of-{username}", looks)
            complaints.clear()  # Chromium names the status of those two


def look_each_way(page: Page, name: str, looks: Looks) -> None:
    for size, scheme in looks:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        look(page, f"{name}-{size['width']}-{scheme}")
