"""
What is typed into any form of the console stands in no log, URL, metric or row.

The forms are read from the pages of the route table, so a new one is filled in by itself. `KEPT`
are the fields whose text the ledger keeps on purpose, as a name; such a text is in no log, either.
"""

import itertools
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import md5, sha1, sha256
from typing import NamedTuple

import pytest
from aiohttp import FormData
from prometheus_client import generate_latest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.console.same_origin import FIELD, SAFE
from segments.doors.rest.services import Services
from segments.ledger import activations, audiences
from segments.ledger.privacy.audit import entries
from segments.ledger.tables import metadata
from segments.model.job import JobState
from segments.model.role import Role
from segments.processes.console import pages
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.console import Browser, Served, Shown, paths_for, serving_console
from tests.engines import Engine
from tests.html_forms import Form, forms_in
from tests.ledger_seed import Seeded
from tests.listener import explaining_listener
from tests.rest import PASSWORD
from tests.segments.console.test_others_ids import ids_of_shop, path_of
from tests.segments.console.test_pages import BRAKE, delivery
from tests.segments.console.test_partner_admin import admin_of
from tests.segments.console.test_privacy import ask as ask_desk
from tests.segments.console.test_privacy import transaction_of

KEPT = {
    "/audiences/new": {"name"},
    "/audiences/{no}/rename": {"name"},
    "/logins": {"username"},
    "/ops/deliveries/{transaction}/refuse": {"reason"},
    "/ops/deliveries/{transaction}/release": {"reason"},
    "/ops/partners": {"name", "public_id"},
    "/ops/recipients": {"name"},
    "/privacy": {"reference"},
    "/privacy/keys/key": {"domain", "kid"},
    "/privacy/keys/token": {"note"},
}
"""By the path of a form, the fields that name things: audiences, users, tickets, reasons."""

RIGHT = {"confirm": "ERASURE", "at": "", "days": "30", "from": "2030-01-01", "until": "2030-01-01"}
"""Fields that refuse the form unless they are right: such a form is sent once more."""

ANSWERS = {200, 303, 404, 409, 422, 429}

_ENDS = re.compile("/(password|end|revoke|remove|deactivate|unrelate|delete)$")
"""Acts after which other forms are gone: sent late."""

_LINKED = re.compile(r'(?:href|action|src|hx-\w+)="([^"]*)"')

Ids = Mapping[str, Sequence[str]]


class Person(NamedTuple):
    """A person as somebody types it."""

    address: str
    device: str
    cookie: str

    @property
    def digests(self) -> list[str]:
        return [each(self.address.encode()).hexdigest() for each in (md5, sha1, sha256)]

    @property
    def values(self) -> list[str]:
        """What is typed into a field, one after another."""
        eids = [{"source": "liveintent.com", "uids": [{"id": self.digests[2]}]}]
        device = {"ifa": self.device}
        bid = {"id": "r", "imp": [{"id": "1"}], "user": {"eids": eids}, "device": device}
        return [
            self.address,
            self.digests[2],
            self.device,
            f"duid:{self.cookie}",
            json.dumps(bid),
        ]

    def in_(self, text: str) -> list[str]:
        """Return the parts of a text that tell of the person."""
        name = self.address.partition("@")[0]
        traces = [name, *(each[:32] for each in self.digests), self.device[:18], self.cookie]
        lowered = text.lower()
        return [trace for trace in traces if trace in lowered]


PERSON = Person(
    "typed.by.mistake@example.com", "3b241101-e2bb-4255-8caf-4136c566a962", "t7k3q9x2--0kpzv4w8yd1m"
)
NAMED = Person(
    "kept.as.a.name@example.com", "5f0c1d8e-9a37-4d0b-b6a4-7f3f0a4e2c11", "q1w8e2r7--9mnbvcx3zl4k"
)
"""Typed where the ledger keeps the text: so in rows, but in no log."""


@asynccontextmanager
async def browser_of(role: Role, console: Served, seeded: Seeded) -> AsyncIterator[Browser]:
    if role is Role.PARTNER:
        async with admin_of(console, seeded.shop) as browser:
            yield browser
    else:
        async with console.staff_of(role) as browser:
            yield browser


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, seeded: Seeded, valkey: Engine
) -> AsyncIterator[tuple[Served, Ids]]:
    """A console with one of everything that has a form, and the ids of its pages."""
    async with connect(valkey.url) as redis, explaining_listener(valkey.url) as listeners:
        await prepare(redis, settings.expected_ids)
        async with serving_console(settings, ledger, redis, listeners=listeners) as served:
            await ids_of_shop(served, seeded, ledger)
            held = await delivery(ledger, seeded, JobState.HELD, name="h", held_because=BRAKE)
            async with ledger.begin() as conn:
                crm = await audiences.add_audience(conn, seeded.shop, seeded.shop, "C", now_s=1)
                await activations.close(conn, crm, now_s=1)
            async with served.staff_of(Role.PRIVACY, account=seeded.shop) as noor:
                request = transaction_of(await ask_desk(noor, "ACCESS", "a" * 64))
            assert await served.reports.turn() == 1
            async with served.browser() as ben:
                await ben.log_in("ben")
            ids = {
                "/audiences/": [str(seeded.shoes.id), str(crm.id)],
                "/deliveries/": [held.transaction_id],
                "/ops/deliveries/": [held.transaction_id],
                "/ops/partners/": [str(seeded.shop.id)],
                "/ops/recipients/": ["dsp-a"],
                "/privacy/requests/": [request],
            }
            yield served, ids


def route_of(form: Form) -> str:
    """Return the path in the route table that a form is sent to."""
    for page in pages():
        path = path_of(page)
        if page.method == form.method and re.fullmatch(
            re.sub(r"\{\w+\}", "[^/]+", path), form.path
        ):
            return path
    raise AssertionError(f"no page takes {form}")


async def send(browser: Browser, form: Form, values: Mapping[str, str], typed: str) -> Shown:
    if form.method in SAFE:
        return await browser.see(form.path, params=values)
    data = FormData(values)
    for name in form.files:
        data.add_field(name, f"{typed}\n".encode(), filename="people.txt")
    return await browser.ask("POST", form.path, data=data)


async def fill_in(browser: Browser, form: Form) -> list[Form]:
    """Type into all fields of a form, once for each choice; return the forms of the answers."""
    kept = KEPT.get(route_of(form), set())
    typed_and_named = list(zip(PERSON.values, NAMED.values, strict=True))
    if not form.texts and not form.files:
        del typed_and_named[1:]
    answered: list[Form] = []
    rights = [{}, {name: RIGHT[name] for name in form.texts if name in RIGHT}]
    for values, right in itertools.product(form.filled(), rights if rights[1] else [{}]):
        for typed, named in typed_and_named:
            texts = {name: named if name in kept else typed for name in form.texts}
            token = {FIELD: browser.token} if FIELD in values else {}
            shown = await send(browser, form, {**values, **texts, **right, **token}, typed)
            assert shown.status in ANSWERS or not token, (form, shown.said)
            if form.method in SAFE:
                continue  # a search is for names, and in its page's URL
            urls = " ".join([shown.location, *_LINKED.findall(shown.text)])
            assert PERSON.in_(urls) == [], (form, urls)
            answered += forms_in(shown.text, form.path)
    return answered


async def fill_in_all(browser: Browser, paths: Sequence[str]) -> set[str]:
    """
    Fill in the forms of pages, and those that come up by it, until there is no other.

    Returns the paths of the acts.
    """
    done: dict[str, Form] = {}
    found: list[Form] = []
    while True:
        for path in paths:
            found += forms_in((await browser.see(path)).text, path)
        new = {form.key: form for form in found if form.key not in done}
        if not new:
            return {route_of(form) for form in done.values() if form.method not in SAFE}
        found = []
        for form in sorted(new.values(), key=lambda form: bool(_ENDS.search(form.path))):
            done[form.key] = form
            if form.path != "/logout":
                found += await fill_in(browser, form)


async def rows_that_tell(ledger: AsyncEngine) -> dict[str, list[str]]:
    """Return the tables whose rows tell of the person."""
    found = {}
    async with ledger.connect() as conn:
        for table in metadata.sorted_tables:
            found[table.name] = PERSON.in_(str((await conn.execute(select(table))).all()))
    return {name: traces for name, traces in found.items() if traces}


async def test_what_is_typed_into_any_form_is_nowhere(
    world: tuple[Served, Ids],
    seeded: Seeded,
    ledger: AsyncEngine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console, ids = world
    for name in ("segments", "rtb", "aiohttp"):  # the ledger's own driver names what it is given
        caplog.set_level(logging.DEBUG, logger=name)
    # A withdrawal waits until no bid can show it, which takes seconds each and is tested elsewhere.
    monkeypatch.setattr(Services, "withdraw_from_bids", Services.publish_catalog)
    acted = set()
    for role in (Role.PRIVACY, Role.PARTNER, Role.OPERATOR):
        async with browser_of(role, console, seeded) as browser:
            acted |= await fill_in_all(browser, list(paths_for({role}, ids)))
        assert await rows_that_tell(ledger) == {}, role
    await console.member("eve", Role.OPERATOR)
    async with console.browser() as stranger:
        assert (await stranger.send("/login", username="eve", password=PASSWORD)).status == 303
        for path in ("/login/code", "/login"):
            acted |= await fill_in_all(stranger, [path])
    assert await rows_that_tell(ledger) == {}

    assert acted == {path_of(page) for page in pages() if page.method not in SAFE}
    async with ledger.connect() as conn:
        whats = {row["what"] async for row in entries(conn)}
    assert {"RESTRICT", "ERASURE", "ACCESS", "search", "explain", "upload", "login"} <= whats
    told = " ".join(str(record.__dict__) for record in caplog.records)
    told += generate_latest().decode()
    assert (PERSON.in_(told), NAMED.in_(told)) == ([], [])
