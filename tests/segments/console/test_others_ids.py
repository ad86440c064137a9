"""
Every page and act that takes an id: another account's is answered as one that no account has.

The paths are the route table's, so a new page below a known path is asked by itself, and one of a
new kind of id fails until it is said whose those are.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import NamedTuple

import asyncssh
import pytest
from aiohttp import FormData
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.acts.logins import add_ssh_key
from segments.acts.trail import By
from segments.console.application import Page
from segments.console.same_origin import SAFE
from segments.doors.sftp.public_key import read_public_keys
from segments.ledger import users
from segments.ledger.external_audience import orgs
from segments.ledger.privacy import keys as privacy_keys
from segments.ledger.privacy import tokens as privacy_tokens
from segments.ledger.privacy.audit import Actor, Who
from segments.model.job import JobState
from segments.model.role import Role
from segments.processes.console import pages
from tests.console import Browser, Served
from tests.ledger_seed import Seeded
from tests.segments.console.test_pages import delivery
from tests.segments.console.test_partner_admin import admin_of
from tests.segments.console.test_privacy import ask as ask_desk
from tests.segments.console.test_privacy import desk_of, transaction_of

NOWHERE = {
    "/audiences/{no}": "987654321",
    "/deliveries/{transaction}": "9" * 16,
    "/logins/{user}": "0" * 32,
    "/privacy/requests/{transaction}": "0" * 32,
}
"""The start of a path, and an id that is nobody's. Operators see everybody's, so not of `/ops`."""

FIELDS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("GET", "/deliveries"): {"audience": "987654321"},
    ("GET", "/deliveries.csv"): {"audience": "987654321"},
    ("GET", "/upload"): {"audience": "987654321"},
    ("POST", "/upload"): {"audience": "987654321"},
    ("POST", "/keys/remove"): {"fingerprint": f"SHA256:{'A' * 43}"},
    ("POST", "/keys/revoke"): {"api_key": "0" * 32},
    ("POST", "/logins"): {"account": "987654321"},
    ("POST", "/privacy"): {"reach": "987654321"},
    ("POST", "/privacy/keys/token"): {"reach": "987654321"},
    ("POST", "/privacy/keys/token/revoke"): {"token": "987654321"},
    ("POST", "/privacy/keys/key/remove"): {"domain": "nowhere.example"},
}
"""The fields, of a form or of a URL, that name what may be another's."""

BESIDE: Mapping[str, Mapping[str, str]] = {
    "/logins": {"username": "eve"},
    "/privacy": {"do": "check", "action": "RESTRICT", "ids": "a" * 64},
    "/privacy/keys/token": {"days": "30"},
    "/privacy/keys/key/remove": {"kid": "k1"},
}
"""What a form says besides."""

Question = tuple[str, Mapping[str, str]]

_PARAMETER = re.compile(r"\{\w+\}")
_TOKEN = re.compile(r'name="_t" value="[0-9a-f]+"')


class World(NamedTuple):
    """Admins and privacy desks of the agency and of the shop, and the shop's ids."""

    agency: Mapping[Role, Browser]
    shop: Mapping[Role, Browser]
    ids: Mapping[str, str]  # by the start of a path, or by field


async def ids_of_shop(console: Served, seeded: Seeded, ledger: AsyncEngine) -> dict[str, str]:
    """Give the shop one of everything that has an id, and return the ids."""
    shop, now_s = seeded.shop, console.clock()
    by = By(Who(Actor.USER, "ann", shop.id), now_s)
    public_key = asyncssh.generate_private_key("ssh-ed25519").export_public_key()
    await console.user("ben", shop)
    job = await delivery(ledger, seeded, JobState.DONE)
    async with ledger.begin() as conn:
        (key,) = read_public_keys(public_key, shop.id)
        await add_ssh_key(conn, by, shop, key)
        sandbox = await orgs.find_or_add_sandbox(conn, "A@AdobeOrg", "prod", shop, now_s=now_s)
        credential = await orgs.add_credential(conn, sandbox, "ann", now_s=now_s)
        token, _ = await privacy_tokens.create(
            conn, shop, is_internal=False, note="a tool", now_s=now_s, expires_at_s=now_s + 9
        )
        await privacy_keys.add_key(
            conn, "shop.example", "k1", "a key", shop, is_internal=False, now_s=now_s
        )
        ben = await users.user(conn, "ben")
    return {
        "/audiences/{no}": str(seeded.shoes.id),
        "/deliveries/{transaction}": job.transaction_id,
        "/logins/{user}": ben.public_id,
        "audience": str(seeded.shoes.id),
        "fingerprint": key.fingerprint,
        "api_key": credential.api_key,
        "account": str(shop.id),
        "reach": str(shop.id),
        "token": str(token.id),
        "domain": "shop.example",
    }


@pytest.fixture
async def world(console: Served, seeded: Seeded, ledger: AsyncEngine) -> AsyncIterator[World]:
    ids = await ids_of_shop(console, seeded, ledger)
    async with AsyncExitStack() as stack:
        agency, shop = [
            {
                Role.PARTNER: await stack.enter_async_context(admin_of(console, account)),
                Role.PRIVACY: await stack.enter_async_context(desk_of(console, account)),
            }
            for account in (seeded.agency, seeded.shop)
        ]
        asked = await ask_desk(shop[Role.PRIVACY], "ACCESS")
        ids["/privacy/requests/{transaction}"] = transaction_of(asked)
        yield World(agency, shop, ids)


async def answer(
    browser: Browser, page: Page, path: str, fields: Mapping[str, str]
) -> tuple[int, str, str]:
    """Ask for a page, and return its status and text without the ids asked for."""
    if page.method in SAFE:
        shown = await browser.see(path, params=fields)
    elif page.is_streamed:
        form = FormData({"_t": browser.token, **fields, "action": "add"})
        form.add_field("file", b"x", filename="a.txt")
        shown = await browser.ask("POST", path, data=form)
    else:
        shown = await browser.send(path, **BESIDE.get(path, {}), **fields)
    text = _TOKEN.sub("", shown.main or shown.text)
    for name, value in fields.items():
        text = text.replace(f"{name}={value}", name)
    text = text.replace(path, "")
    return shown.status, shown.location, text


def is_below(page: Page, start: str) -> bool:
    """Tell whether a page's path begins so."""
    return f"{path_of(page)}/".startswith(f"{start}/")


def questions_of(page: Page, world: World) -> list[tuple[Question, Question]]:
    """Return what a page is asked: the path and fields with the shop's ids, and with nobody's."""
    path = path_of(page)
    found: list[tuple[Question, Question]] = []
    for start, nobodys in NOWHERE.items():
        if is_below(page, start):
            anothers, unknown = (
                _PARAMETER.sub(id_, start) + path.removeprefix(start)
                for id_ in (world.ids[start], nobodys)
            )
            found.append(((anothers, {}), (unknown, {})))
    assert found or "{" not in path, f"say in NOWHERE whose ids {path} takes"
    fields = FIELDS.get((page.method, path))
    if fields is not None:
        of_shop = {name: world.ids[name] for name in fields}
        found.append(((path, of_shop), (path, fields)))
    return found


def path_of(page: Page) -> str:
    """A page's path, without the forms of its parameters."""
    return re.sub(r":\[.*?\}\}", "}", page.path)


def asked() -> list[Page]:
    """The pages that show and change what is an account's."""
    return [page for page in pages() if page.roles is not None and Role.OPERATOR not in page.roles]


async def test_anothers_id_is_answered_as_nobodys(world: World) -> None:
    questions = [(page, *both) for page in asked() for both in questions_of(page, world)]

    differ = []
    for page, anothers, nobodys in questions:
        (role,) = page.roles or ()
        one = await answer(world.agency[role], page, *anothers)
        other = await answer(world.agency[role], page, *nobodys)
        if one != other or (anothers[0] != page.path and other[0] != HTTPStatus.NOT_FOUND):
            differ.append((page.method, page.path, one, other))
    assert not differ, differ

    # The ids are the shop's indeed: it is answered otherwise, by one page of each kind of id.
    kinds = {*NOWHERE, *(name for fields in FIELDS.values() for name in fields)}
    for page, owned, nobodys in questions:
        (role,) = page.roles or ()
        one = await answer(world.shop[role], page, *owned)
        if one != await answer(world.shop[role], page, *nobodys):
            kinds -= {*owned[1], *(start for start in NOWHERE if is_below(page, start))}
    assert kinds == set()
