"""The console, served for real on a port of its own: for tests that ask it as a browser does."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pyotp
from aiohttp import FormData
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.console.bid_history import BidHistory
from segments.console.checks import Checks
from segments.console.options import ConsoleOptions
from segments.doors.privacy.report_store import Reports, open_reports
from segments.doors.rest.services import Services
from segments.files.blobs import Blobs
from segments.ledger import staff, users
from segments.model.account import Account
from segments.model.role import Role
from segments.processes.console import listening, pages, sites
from segments.settings import Settings
from segments.upkeep.listeners import Listeners
from tests.rest import PASSWORD, QUICK, FakeClock

_TOKEN = re.compile(r'name="_t" value="([0-9a-f]+)"')
NO_LISTENERS = Listeners()
_SECRET = re.compile(r"secret=([A-Z2-7]+)")
_FILES = re.compile(r"\.(csv|json)$|/status$")
_PARAMETER = re.compile(r"\{(\w+)[^}]*\}+")


@dataclass(frozen=True)
class Shown:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")

    @property
    def main(self) -> str:
        """The page without the links beside it."""
        return self.text.partition("<main")[2]

    @property
    def said(self) -> str:
        """The text of the page, without its tags."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.text).split())


@dataclass
class Browser:
    """A browser with one cookie jar, which says where its forms come from as browsers do."""

    url: str
    session: aiohttp.ClientSession
    token: str = ""  # of the forms of the last page
    headers: dict[str, str] = field(default_factory=lambda: {"Sec-Fetch-Site": "same-origin"})

    async def ask(self, method: str, path: str, **options: Any) -> Shown:
        headers = {**self.headers, **options.pop("headers", {})}
        async with self.session.request(
            method, self.url + path, headers=headers, allow_redirects=False, **options
        ) as answer:
            shown = Shown(answer.status, answer.headers, await answer.text())
        found = _TOKEN.search(shown.text)
        if found:
            self.token = found[1]
        return shown

    async def see(self, path: str, **options: Any) -> Shown:
        return await self.ask("GET", path, **options)

    async def send(self, path: str, /, *, headers: Any = None, **fields: str) -> Shown:
        """Send a form, with the token of the last page unless `_t` says otherwise."""
        form = FormData({"_t": self.token, **fields})
        return await self.ask("POST", path, data=form, headers=headers or {})

    async def log_in(self, username: str, password: str = PASSWORD) -> Shown:
        """Log in as a user; the next page's token is known then."""
        answer = await self.send("/login", username=username, password=password)
        assert answer.status == 303, answer.said
        return await self.see("/account")

    async def log_in_staff(self, username: str, now_s: float) -> str:
        """Log in as staff for the first time; return the secret that was enrolled."""
        answer = await self.send("/login", username=username, password=PASSWORD)
        assert answer.location.startswith("/login/code"), answer.said
        found = _SECRET.search((await self.see("/login/code")).text)
        assert found is not None, "the secret is shown"
        answer = await self.send("/login/code", code=pyotp.TOTP(found[1]).at(int(now_s)))
        assert answer.status == 303, answer.said
        await self.see("/account")
        return found[1]


@dataclass
class Served:
    """The console at work."""

    setting_to_url: dict[str, str]
    services: Services
    clock: FakeClock
    reports: Reports

    @property
    def url(self) -> str:
        return self.setting_to_url["SEGMENTS_CONSOLE_PORT"]

    async def user(self, username: str, account: Account) -> None:
        password_hash = await QUICK.hash(PASSWORD)
        async with self.services.ledger.begin() as conn:
            await users.add_user(conn, username, account, password_hash, now_s=self.clock())

    async def member(self, username: str, *roles: Role, account: Account | None = None) -> None:
        password_hash = await QUICK.hash(PASSWORD)
        async with self.services.ledger.begin() as conn:
            await staff.add_staff(
                conn, username, roles, password_hash, account=account, now_s=self.clock()
            )

    @asynccontextmanager
    async def browser(self, url: str | None = None) -> AsyncIterator[Browser]:
        """A browser that has not been here."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            yield Browser(url or self.url, session)

    @asynccontextmanager
    async def user_of(self, account: Account) -> AsyncIterator[Browser]:
        """A browser of a user of an account."""
        username = f"user-{account.id}"
        await self.user(username, account)
        async with self.browser() as browser:
            await browser.log_in(username)
            yield browser

    @asynccontextmanager
    async def staff_of(
        self, *roles: Role, account: Account | None = None
    ) -> AsyncIterator[Browser]:
        """A browser of staff."""
        username = "-".join(["staff", *roles, *([] if account is None else [account.public_id])])
        await self.member(username, *roles, account=account)
        async with self.browser() as browser:
            await browser.log_in_staff(username, self.clock())
            yield browser


@asynccontextmanager
async def serving_console(
    settings: Settings,
    ledger: AsyncEngine,
    redis: Redis,
    *,
    listeners: Listeners = NO_LISTENERS,
    history: BidHistory | None = None,
    checks: Checks | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve the console; `options` are those of `ConsoleOptions` that differ."""
    clock = FakeClock()
    console = ConsoleOptions("127.0.0.1", 0, None, None, is_tls=False)._replace(**options)
    services = Services(
        replace(settings.rest_options, public_url=console.public_url),
        ledger,
        redis,
        Blobs.open(settings.blobs_at, settings.reserve_bytes),
        clock,
        clock,
        passwords=QUICK,
    )
    reports = await open_reports(services, settings.privacy_options)
    apps = sites(
        services,
        console,
        settings.privacy_options,
        reports,
        checks=checks,
        listeners=listeners,
        history=history,
    )
    async with listening(apps, console, settings.api_limits) as setting_to_port:
        urls = {name: f"http://127.0.0.1:{port}" for name, port in setting_to_port.items()}
        yield Served(urls, services, clock, reports)


def paths_for(roles: set[Role], ids: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the URLs of all pages that these roles see; files are no pages."""
    for page in pages():
        if page.method != "GET" or page.roles is None or not roles.intersection(page.roles):
            continue
        if _FILES.search(page.path):
            continue
        start, parameter, _ = (*_PARAMETER.split(page.path, maxsplit=1), "", "")[:3]
        for id_ in ids[start] if parameter else [""]:
            yield _PARAMETER.sub(id_, page.path)
