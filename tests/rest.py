"""The REST doors, served for real on a port of their own: for tests that ask them."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
from argon2 import PasswordHasher
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from yarl import URL

from segments.doors.privacy.report_store import Reports, open_reports
from segments.doors.rest.passwords import Passwords
from segments.doors.rest.services import Services
from segments.files.blobs import Blobs
from segments.ledger import users
from segments.model.account import Account
from segments.processes.rest_api import application, doors, runner_of
from segments.runtime.http_server import listen
from segments.settings import Settings

PASSWORD = "correct horse battery"

QUICK = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
"""A password's real hash takes 64 MiB and 0.2 s, which each of some hundred tests would pay."""


class FakeClock:
    """A time that stands still until it is moved; both kinds of it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._at_s = time.time()

    def __call__(self) -> float:
        return self._at_s + self.ahead_s


class Answer(NamedTuple):
    """What came back."""

    status: int
    content_type: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Rest:
    """A client of the served doors."""

    url: str
    settings: Settings
    services: Services
    clock: FakeClock
    session: aiohttp.ClientSession
    reports: Reports
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, body: Any = None, *, headers: Any = None, **options: Any
    ) -> Answer:
        """Ask under a path, or a whole URL; `body` is sent as JSON, `data` as it stands."""
        if body is not None:
            options["json"] = body
        url = URL(path if path.startswith("http") else self.url + path, encoded=True)
        async with self.session.request(
            method, url, headers={**self.headers, **(headers or {})}, **options
        ) as answer:
            return Answer(answer.status, answer.content_type, answer.headers, await answer.read())

    async def user(self, username: str, account: Account) -> None:
        """Add a user with `PASSWORD`."""
        password_hash = await QUICK.hash(PASSWORD)
        async with self.services.ledger.begin() as conn:
            await users.add_user(conn, username, account, password_hash, now_s=self.clock())

    async def login(self, username: str, password: str = PASSWORD) -> Answer:
        return await self.ask("POST", "/login", {"username": username, "password": password})

    @asynccontextmanager
    async def acting_for(self, account: Account) -> AsyncIterator["Rest"]:
        """Give a client that has logged in for an account."""
        username = f"user-{account.id}"
        await self.user(username, account)
        token = (await self.login(username)).body["token"]
        yield Rest(
            self.url,
            self.settings,
            self.services,
            self.clock,
            self.session,
            self.reports,
            {"Authorization": f"bearer {token}"},
        )


@asynccontextmanager
async def serving(
    settings: Settings,
    ledger: AsyncEngine,
    redis: Redis,
    blobs: Blobs | None = None,
    *,
    passwords: Passwords = QUICK,
) -> AsyncIterator[Rest]:
    """Serve the doors."""
    clock = FakeClock()
    blobs = blobs or Blobs.open(settings.blobs_at, settings.reserve_bytes)
    services = Services(
        settings.rest_options, ledger, redis, blobs, clock, clock, passwords=passwords
    )
    reports = await open_reports(services, settings.privacy_options)
    app = application(services, await doors(settings, services, reports))
    runner = runner_of(app, settings.api_limits)
    await runner.setup()
    try:
        port = await listen(runner, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session:
            yield Rest(url, settings, services, clock, session, reports)
    finally:
        await runner.cleanup()
