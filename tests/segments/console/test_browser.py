"""
The console in a real browser: what a person does, by mouse, by keyboard, without scripts.

One Chromium and one console for all of it: each flow takes what the flow before has left.
"""

import asyncio
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

import aiohttp
import pyotp
import pytest
from axe_playwright_python.sync_playwright import Axe
from msgspec.structs import replace
from playwright.sync_api import (
    Browser,
    BrowserContext,
    FilePayload,
    Page,
    ViewportSize,
    sync_playwright,
)
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.console.bid_history import BidHistory
from segments.ledger import accounts, jobs, users
from segments.ledger.database.engine import open_ledger
from segments.loader.loader import Loader
from segments.model.account import AccountKind
from segments.model.identity import id_of_email_hash
from segments.model.job import UNFINISHED, JobState
from segments.model.record import Change, day_of
from segments.model.role import Role
from segments.projection.catalog import publish_catalog
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from segments.upkeep.listener_figures import Counts, Ending, Reading
from tests.console import Served, serving_console
from tests.edge.client import ENRICH
from tests.edge.small_store import Service, added_data, bid_request, eventually, started
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.listener import explaining_listener
from tests.rest import PASSWORD
from tests.segments.console.test_pages import BRAKE, count, delivery
from tests.segments.console.test_playground import DIGEST

pytestmark = pytest.mark.xdist_group("console in a browser")

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
IN_README = ("audience", "playground")
"""Pages whose pictures the README shows; written where CONSOLE_README is set."""

PHONE = ViewportSize(width=390, height=844)
DESK = ViewportSize(width=1280, height=900)


DROPPED = """([names, texts]) => {
    const data = new DataTransfer();
    names.forEach((name, n) => data.items.add(new File([texts[n]], name)));
    return data;
}"""
"""Files as a person drops them on a page."""

RICH_BID = f"""{{
  "id": "r-1", "tmax": 120,
  "imp": [{{"id": "1", "banner": {{"w": 300, "h": 250}}}}],
  "site": {{"publisher": {{"id": "7001"}}}},
  "user": {{
    "ext": {{"hashes": {{"email": ["{"b2" * 16}"]}}}},
    "eids": [
      {{"source": "liveintent.com",
       "uids": [{{"id": "{DIGEST}"}}]}},
      {{"source": "uidapi.com",
       "uids": [{{"id": "AgAAAAPFhZ"}}]}}
    ]
  }},
  "regs": {{"us_privacy": "1YNN"}},
  "device": {{"lmt": 0, "ifa": "00000000-0000-0000-0000-000000000000"}}
}}"""


SHARES = (
    ("enriched", "", 41),
    ("held_out", "", 5),
    ("no_match", "", 20),
    ("no_identity", "", 9),
    ("no_consent", "tcf_no_vendor", 18),
    ("no_consent", "gpp_opt_out", 4),
    ("opted_out", "", 1),
    ("out_of_time", "", 1),
    ("malformed", "not_json", 1),
)


class Console:
    """
    The console on a thread of its own: the browser's library keeps this one's event loop.

    `is_new`: of a deployment with a partner and staff, and nothing else.
    """

    def __init__(self, settings: Settings, store: Engine, *, is_new: bool = False) -> None:
        self.settings, self.store, self._is_new = settings, store, is_new
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self.served: Served
        self.seeded: Seeded

    def __enter__(self) -> "Console":
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def do(self, what: Any) -> Any:
        """Do something on the console's loop."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with (
            connect(self.store.url) as redis,
            open_ledger(self.settings.ledger_dsn) as self.ledger,
        ):
            await prepare(redis, self.settings.expected_ids)
            if self._is_new:
                async with self.ledger.begin() as conn:
                    shop = await accounts.add_account(
                        conn, AccountKind.ADVERTISER, "shop", "Shop", now_s=0
                    )
            else:
                self.seeded = await seed(self.ledger)
                shop = self.seeded.shop
            async with (
                explaining_listener(self.store.url) as listeners,
                serving_console(
                    self.settings,
                    self.ledger,
                    redis,
                    listeners=listeners,
                    history=BidHistory() if self._is_new else an_hour_of_bids(),
                ) as self.served,
            ):
                await self.served.user("jane", shop)
                async with self.ledger.begin() as conn:
                    jane = await users.user(conn, "jane")
                    await users.set_admin(conn, jane, is_admin=True)
                await self.served.member("ada", Role.OPERATOR)
                await self.served.member("noor", Role.PRIVACY)
                await self.served.member("grace", Role.OPERATOR)
                await self.served.member("otto", Role.OPERATOR, Role.PRIVACY)
                if not self._is_new:
                    await a_member(self.settings, self.ledger, redis, self.seeded)
                self._ready.set()
                await self._stop.wait()


@pytest.fixture(scope="module")
def console(
    migrated_file: Path, valkey_server: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("console"), expected_ids=10_000)
    valkey_server.reset()
    shutil.copy2(migrated_file, settings.data_dir)
    with Console(settings, valkey_server) as console:
        for state in (JobState.DONE, JobState.FAILED, JobState.QUEUED):
            console.do(delivery(console.ledger, console.seeded, state, name=f"{state}.txt", rows=9))
        today = day_of(console.served.clock())
        for days_ago in range(30):
            members = 123_456 - 700 * days_ago - 9_000 * (days_ago > 11)
            console.do(count(console.ledger, console.seeded, today - days_ago, members))
        yield console


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program is not None, "Debian's chromium, of .ci/debian-packages"
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


async def a_member(settings: Settings, ledger: AsyncEngine, redis: Redis, seeded: Seeded) -> None:
    """Put a person into the audiences, and the catalog into the store."""
    writer = Writer(redis, await prepare(redis, settings.expected_ids))
    changes = [Change(each.id, is_add=True) for each in (seeded.shoes, seeded.hats)]
    await writer.merge([id_of_email_hash(DIGEST)], changes)
    await publish_catalog(ledger, redis)


def an_hour_of_bids() -> BidHistory:
    """Figures of two listeners, one of which is away in the end."""
    now = [time.time() - 3600]
    history = BidHistory(["http://10.0.0.1:8081", "http://10.0.0.2:8081"], lambda: now[0])
    counted = Counter[Ending]()
    for n in range(3600 // 5 + 1):
        for outcome, reason, share in SHARES:
            counted[Ending("dsp-a", outcome, reason)] += share * (100 + n % 40)
        edges = {0.0005: counted.total() * 0.98, 0.001: counted.total(), inf: counted.total()}
        counts = Counts(dict(counted), edges, 412)
        reading = Reading("", now[0], counts, "", "0.2.0", True, True, "")
        history.take([reading._replace(url=f"http://10.0.0.{host}:8081") for host in (1, 2)])
        now[0] = time.time() - 3600 + 5 * n
    history.take([Reading("http://10.0.0.2:8081", now[0], trouble="it is away")])
    return history


def look(page: Page, name: str) -> None:
    """Check a page as axe-core does, and that nothing scrolls sideways; keep a picture."""
    if folder := os.environ.get("CONSOLE_PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    if name in IN_README and "CONSOLE_README" in os.environ:
        page.screenshot(path=PICTURES / f"console-{name}.png")
    found = Axe().run(page)
    assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert page.evaluate(wide) is False, name


def watched(context: BrowserContext, complaints: list[str]) -> Page:
    """Open a page whose errors, and whose offences against the policy, are kept."""
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


def log_in(page: Page, url: str, username: str) -> None:
    page.goto(f"{url}/login")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")


def test_a_partner_sees_what_became_of_its_files(console: Console, chromium: Browser) -> None:
    complaints: list[str] = []
    url = console.served.url
    with chromium.new_context(viewport=DESK) as context:
        page = watched(context, complaints)
        log_in(page, url, "jane")
        page.get_by_role("heading", name="Audiences").wait_for()
        look(page, "audiences")
        page.get_by_role("link", name="Shoes").click()
        page.get_by_role("heading", name="Shoes").wait_for()
        look(page, "audience")
        page.get_by_role("link", name="Delete…").click()
        page.get_by_role("dialog").get_by_label("Type its name").fill("not its name")
        look(page, "delete")
        page.get_by_role("link", name="Cancel").click()
        page.get_by_role("navigation").get_by_role("link", name="Deliveries").click()
        page.get_by_role("link", name="failed.txt").wait_for()
        look(page, "deliveries")

        # The file goes on while the page is open: nobody loads it again.
        page.get_by_role("link", name="queued.txt").click()
        page.get_by_role("heading", name="queued.txt").get_by_text("Queued", exact=True).wait_for()
        look(page, "delivery")

        async def finish() -> None:
            async with console.ledger.begin() as conn:
                found = await jobs.jobs(conn, 9)
                (job,) = [each for each in found if each.file_name == "queued.txt"]
                await jobs.rewrite(conn, replace(job, state=JobState.DONE, finished_at_s=1.8e9))

        console.do(finish())
        page.get_by_role("heading", name="queued.txt").get_by_text("Done", exact=True).wait_for()
        page.goto(f"{url}/account")
        look(page, "account")
        page.get_by_role("navigation").get_by_role("link", name="Keys").click()
        page.get_by_label("Public key").fill("no key")
        page.get_by_role("button", name="Add").click()
        page.get_by_text("Line 1:").wait_for()
        assert "status of 422" in complaints.pop()
        look(page, "keys")
        page.get_by_role("navigation").get_by_role("link", name="Logins").click()
        page.get_by_label("Name").fill("kim")
        page.get_by_role("button", name="Add").click()
        page.get_by_text("The password of kim, shown this once:").wait_for()
        look(page, "logins")
    assert complaints == []


def test_a_held_file_is_released_by_keyboard_alone(console: Console, chromium: Browser) -> None:
    complaints: list[str] = []
    url = console.served.url
    held = JobState.HELD
    console.do(delivery(console.ledger, console.seeded, held, name="all.txt", held_because=BRAKE))
    with chromium.new_context(viewport=DESK, color_scheme="dark") as context:
        page = watched(context, complaints)
        page.goto(url)
        look(page, "login-dark")
        page.keyboard.type("ada")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Set up your second factor").wait_for()
        look(page, "code-dark")
        secret = page.locator("details p").first.text_content() or ""
        page.keyboard.type(pyotp.TOTP(secret).at(int(console.served.clock())))
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="2 things need you").wait_for()
        look(page, "operations-dark")
        page.get_by_role("link", name="all.txt").focus()
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Release…").focus()
        page.keyboard.press("Enter")
        page.get_by_role("dialog").get_by_label("Why").wait_for()
        look(page, "release-dark")
        page.keyboard.type("as agreed with the partner")
        page.keyboard.press("Enter")
        page.get_by_text("Released: the loader carries it on.").wait_for()
        for path in (
            "/ops/partners",
            f"/ops/partners/{console.seeded.shop.id}",
            "/ops/recipients",
            "/ops/recipients/dsp-a",
            "/ops/audit",
            "/ops/deliveries",
        ):
            page.goto(url + path)
            look(page, path.strip("/").replace("/", "-") + "-dark")
    assert complaints == []


def enrol(page: Page, served: Served) -> None:
    """Type the first code of a member of staff who has just given the password."""
    page.get_by_role("heading", name="Set up your second factor").wait_for()
    secret = page.locator("details p").first.text_content() or ""
    page.get_by_label("Six digits").fill(pyotp.TOTP(secret).at(int(served.clock())))
    page.keyboard.press("Enter")


def test_a_person_is_opted_out_looked_up_and_reported(console: Console, chromium: Browser) -> None:
    complaints: list[str] = []
    url, address = console.served.url, "jane@example.com"
    with chromium.new_context(viewport=DESK) as context:
        page = watched(context, complaints)
        seen: list[str] = []
        page.on("request", lambda request: seen.append(request.url))
        log_in(page, url, "noor")
        enrol(page, console.served)
        page.get_by_role("heading", name="Requests of persons").wait_for()
        look(page, "privacy")
        page.get_by_label("RESTRICT").check()
        page.get_by_label("Who").fill(address)
        page.get_by_label("Reference").fill("DSR-1")
        page.get_by_role("button", name="Put into force").click()
        page.get_by_text("RESTRICT is in force: the next bid obeys.").wait_for()
        page.get_by_role("navigation").get_by_role("link", name="Look up a person").click()
        page.get_by_label("Address, hash, device id or cookie").fill(address)
        page.get_by_role("button", name="Look up").click()
        page.get_by_text("Nothing is shown to any recipient").first.wait_for()
        look(page, "privacy-look-up")
        page.get_by_role("link", name="RESTRICT").click()
        page.get_by_role("heading", name="RESTRICT In force").wait_for()
        look(page, "privacy-request")

        page.goto(f"{url}/privacy")
        page.get_by_label("ERASURE").check()
        page.get_by_label("Who").fill(address)
        page.get_by_role("button", name="Put into force").click()
        page.get_by_label("Type ERASURE").wait_for()
        look(page, "privacy-erasure")
        page.keyboard.type("ERASURE")
        page.get_by_role("button", name="Erase").click()
        page.get_by_text("ERASURE is in force").wait_for()

        page.get_by_label("ACCESS").check()
        page.get_by_label("Who").fill(address)
        page.get_by_role("button", name="Put into force").click()
        page.get_by_role("link", name="See the request").click()
        page.get_by_text("The report is under way").wait_for()
        console.do(console.served.reports.turn())
        page.reload()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download the report").click()
        assert b'"identifiers"' in Path(download.value.path()).read_bytes()
        page.goto(f"{url}/privacy/trail")
        look(page, "privacy-trail")
        assert page.get_by_text("download", exact=True).is_visible()
        page.set_viewport_size(PHONE)
        for path in ("/privacy", "/privacy/look-up", "/privacy/trail"):
            page.goto(url + path)
            look(page, path.strip("/").replace("/", "-") + "-390")
        assert not [each for each in seen if "jane" in each or "%40" in each]
    assert complaints == []


def test_files_are_dropped_and_plain_addresses_stay_here(
    console: Console, chromium: Browser
) -> None:
    complaints: list[str] = []
    url = console.served.url
    with chromium.new_context(viewport=DESK) as context:
        page = watched(context, complaints)
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        log_in(page, url, "jane")
        page.get_by_role("navigation").get_by_role("link", name="Upload a file").click()
        page.locator("#drop-words", has_text="Drop files here").wait_for()
        sent.clear()
        dropped = page.evaluate_handle(
            DROPPED,
            [["hashes.txt", "plain.txt"], ["0" * 31 + "1\n", "ada@example.com\n"]],
        )
        page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
        page.get_by_text("Kept", exact=True).wait_for()
        page.get_by_text("These look like plain e-mail addresses").wait_for()
        look(page, "upload")
        assert sent == ["POST"]
        page.get_by_role("link", name="Follow").click()
        page.get_by_role("heading", name="hashes.txt").wait_for()
    assert complaints == []


async def load(console: Console) -> None:
    """Do what a loader does, until no file is left."""
    services = console.served.services
    loader = Loader(
        console.settings.loader_options, services.ledger, services.redis, services.blobs
    )
    await loader.catch_up()
    async with services.ledger.begin() as conn:
        for each in await jobs.jobs(conn, 99):
            if each.state in UNFINISHED and not each.blob:  # other flows' rows, without a file
                await jobs.rewrite(conn, replace(each, state=JobState.DONE))
    while (job := await loader.claim()) is not None:
        await loader.run_one(job, asyncio.Event())


async def bid(service: Service, digest: str) -> list[str]:
    """Ask a listener for a person's segments, as a bidder does; return their ids."""
    url = f"http://127.0.0.1:{service.port}{ENRICH}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=bid_request(digest)) as answer,
    ):
        data = added_data(await answer.read()) or []
    return [segment["id"] for each in data for segment in each["segment"]]


def test_a_dropped_file_changes_the_next_bid(console: Console, chromium: Browser) -> None:
    complaints: list[str] = []
    # The store finds a person by some bytes of the id: zeros alone would be the last flow's person.
    digest = sha256(b"dropped@example.com").hexdigest()
    listener = AsyncExitStack()
    console.do(load(console))
    service = console.do(listener.enter_async_context(started(console.store.url)))
    try:
        console.do(eventually(lambda: service.is_up))
        assert console.do(bid(service, digest)) == []
        with chromium.new_context(viewport=DESK) as context:
            page = watched(context, complaints)
            log_in(page, console.served.url, "jane")
            page.get_by_role("heading", name="Audiences").wait_for()
            page.goto(f"{console.served.url}/upload")
            page.locator("#drop-words", has_text="Drop files here").wait_for()
            dropped = page.evaluate_handle(DROPPED, [["seven.txt"], [f"{digest}\n"]])
            page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
            page.get_by_role("link", name="Follow").click()
            heading = page.get_by_role("heading", name="seven.txt")
            heading.wait_for()
            console.do(load(console))
            heading.get_by_text("Done", exact=True).wait_for()

        async def is_shown() -> bool:
            return await bid(service, digest) == ["123"]

        console.do(eventually(is_shown))
    finally:
        console.do(listener.aclose())
    assert complaints == []


def log_in_staff(page: Page, console: Console, username: str) -> None:
    """Log in as staff for the first time."""
    log_in(page, console.served.url, username)
    page.get_by_role("heading", name="Set up your second factor").wait_for()
    secret = page.locator("details p").first.text_content() or ""
    page.keyboard.type(pyotp.TOTP(secret).at(int(console.served.clock())))
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Operations").wait_for()


def test_a_bid_is_explained(console: Console, chromium: Browser) -> None:
    complaints: list[str] = []
    with chromium.new_context(viewport=DESK) as context:
        page = watched(context, complaints)
        log_in_staff(page, console, "grace")
        page.get_by_role("navigation").get_by_role("link", name="Playground").click()
        look(page, "playground-empty")
        page.get_by_label("Bid request, JSON").focus()
        page.keyboard.insert_text(RICH_BID)
        page.keyboard.press("Tab")
        page.keyboard.type("dsp-a")
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        verdict = page.get_by_role("heading", name="enriched")
        verdict.wait_for()
        assert verdict.evaluate("verdict => verdict === document.activeElement")
        trace = page.get_by_role("list").filter(has_text="Decode")
        said = " ".join(trace.inner_text().split())
        assert "1 · email user.ext.hashes.email rule 1: user.ext.hashes.email" in said
        assert "2 · email user.eids[0].uids[0] rule 3: liveintent.com" in said
        assert "not read device.ifa device id of zeros only, which is no id" in said
        assert "123 Shoes shop added" in said
        assert "Hats agency agency is not granted to dsp-a" in said
        assert DIGEST not in said
        look(page, "playground")
        page.emulate_media(color_scheme="dark")
        look(page, "playground-dark")
        page.set_viewport_size(PHONE)
        look(page, "playground-390")
        # What was typed is in no URL, and not in what Back shows.
        assert page.url == f"{console.served.url}/ops/playground"
        page.goto(f"{console.served.url}/ops/audit?what=explain")
        page.get_by_role("cell", name="dsp-a").wait_for()
        assert DIGEST not in page.content()
        page.goto(f"{console.served.url}/ops")
        look(page, "operations-390")
    assert complaints == []


def test_pages_work_on_a_phone_without_scripts(console: Console, chromium: Browser) -> None:
    url = console.served.url
    with chromium.new_context(viewport=PHONE, java_script_enabled=False) as context:
        page = context.new_page()
        log_in(page, url, "jane")
        page.get_by_text("segments / Audiences").click()
        page.get_by_role("link", name="Deliveries").first.click()
        page.get_by_role("link", name="failed.txt").click()
        assert page.get_by_role("heading", name="failed.txt").is_visible()
        page.goto(f"{url}/audiences/{console.seeded.shoes.id}")
        page.get_by_role("link", name="Deactivate…").click()
        page.get_by_role("dialog").get_by_role("button", name="Deactivate").click()
        page.get_by_text("Deactivated: no bid shows it from now on.").wait_for()
        page.get_by_role("button", name="Activate").click()
        page.get_by_text("Activated: bids show it").wait_for()
        page.goto(f"{url}/upload")
        content = b"0" * 31 + b"1\n"
        file = FilePayload(name="no-script.txt", mimeType="text/plain", buffer=content)
        page.locator("input[type=file]").set_input_files(file)
        page.get_by_role("button", name="Upload").click()
        page.get_by_role("heading", name="no-script.txt").wait_for()
        state = context.storage_state()
    with chromium.new_context(viewport=PHONE, storage_state=state) as context:
        page = context.new_page()
        for path in (
            "/upload",
            "/audiences",
            "/deliveries",
            "/keys",
            "/logins",
            f"/audiences/{console.seeded.shoes.id}",
        ):
            page.goto(url + path)
            look(page, path.strip("/").replace("/", "-") + "-390")


def test_staff_works_on_a_phone_in_the_dark_without_scripts(
    console: Console, chromium: Browser
) -> None:
    url, served, held = console.served.url, console.served, JobState.HELD
    device = "6d92078a-8246-4ba4-ae5b-76104861e7dc"
    console.do(delivery(console.ledger, console.seeded, held, name="more.txt", held_because=BRAKE))
    with chromium.new_context(
        viewport=PHONE, color_scheme="dark", java_script_enabled=False
    ) as context:
        page = context.new_page()
        log_in(page, url, "otto")
        enrol(page, served)
        page.get_by_role("link", name="more.txt").click()
        page.get_by_role("link", name="Release…").click()
        page.get_by_role("dialog").get_by_label("Why").fill("as agreed")
        page.get_by_role("dialog").get_by_role("button", name="Release").click()
        page.get_by_text("Released: the loader carries it on.").wait_for()
        page.goto(f"{url}/ops/playground")
        page.get_by_label("Bid request, JSON").fill(RICH_BID)
        page.get_by_role("button", name="Explain").click()
        page.get_by_role("heading", name="enriched").wait_for()
        page.goto(f"{url}/privacy")
        page.get_by_label("RESTRICT").check()
        page.get_by_label("Who").fill(device)
        page.get_by_role("button", name="Put into force").click()
        page.get_by_text("RESTRICT is in force").wait_for()
        page.goto(f"{url}/privacy/look-up")
        page.get_by_label("Address, hash, device id or cookie").fill(device)
        page.get_by_role("button", name="Look up").click()
        page.get_by_text("Nothing is shown to any recipient").wait_for()
        page.goto(f"{url}/privacy/keys")
        page.get_by_label("For whom").fill("consent tool")
        page.get_by_role("button", name="Create").click()
        page.get_by_text("shown this once").wait_for()
        state = context.storage_state()
    complaints: list[str] = []
    with chromium.new_context(viewport=PHONE, color_scheme="dark", storage_state=state) as context:
        page = watched(context, complaints)
        for path in ("/privacy/keys", "/privacy", "/ops", "/ops/deliveries", "/ops/audit"):
            page.goto(url + path)
            look(page, path.strip("/").replace("/", "-") + "-390-dark")
        page.set_viewport_size(DESK)
        page.goto(f"{url}/privacy/keys")
        look(page, "privacy-keys")
    assert complaints == []
