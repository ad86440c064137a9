"""
Every published route that takes an id: another account's is answered as one that no account has.

The routes are the OpenAPI document's, so a new one below a known path is asked by itself, and one
with a new kind of id fails until it is said whose those are.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, audiences
from segments.ledger.privacy import tokens as privacy_tokens
from segments.model.account import Account, AccountKind
from segments.model.job import JobState
from tests.ledger_seed import Seeded
from tests.rest import Answer, Rest
from tests.segments.console.test_pages import delivery
from tests.segments.doors.external_audience.external_world import External, sandbox_of
from tests.segments.doors.rest.test_authorisation import EXTERNAL, PERSON, ROUTES, UPLOAD

UUID = "00000000-0000-4000-8000-000000000000"
NOBODYS = {
    "segment": "987654321",
    "upload": "1.000000",
    "audience": "987654321",
    "delivery": "9" * 16,
    "external": UUID,
    "operation": UUID,
    "run": UUID,
    "request": "0" * 32,
    "crm": "987654321",
    "campaign": "987654321",
}
"""An id that there is not, of each kind."""

KINDS = {
    "POST /audience/upload/{id}": "segment",
    "GET /audience/upload/{id}": "upload",
    "/realtime/audience/{id}": "segment",
    "/audiences/{audienceId}": "audience",
    "/deliveries/{transactionId}": "delivery",
    f"{EXTERNAL}/{{audienceId}}": "external",
    f"{EXTERNAL}/{{audienceId}}/runs/{{runId}}": "run",
    f"{EXTERNAL}/operations/{{operationId}}": "operation",
    "/data-subject-requests/{transactionId}": "request",
    "/audience/loadAudienceById/{audienceId}": "crm",
}
"""What a parameter names, by the path to it, if need be by the method, too."""

SIGNED = ("/uploads/", "/data-subject-report/", "/reports/")
"""The URL is the permission, whoever asks: it is signed."""

BODIES = {f"POST {EXTERNAL}/{{audienceId}}/runs": {"dataFilterStartTime": 1}}
"""Where that of `ROUTES` is refused before the id is looked at."""

ACTIVATION = {
    "accountId": 1,
    "name": "x",
    "description": "x",
    "startDate": "2026-01-01T00:00:00Z",
    "endDate": "2027-01-01T00:00:00Z",
}
NAMED_ELSEWHERE: tuple[tuple[str, str, str, Any], ...] = (
    ("audience", "GET", "/deliveries?audience=ID", None),
    ("crm", "DELETE", "/audience/delete?audienceId=ID", None),
    ("crm", "POST", "/audience/update", {"id": int, "name": "x"}),
    ("crm", "POST", "/audience/activate", {"audienceId": int, **ACTIVATION}),
    ("campaign", "POST", "/audience/createcrmaudience", {"campaignId": int, "name": "x"}),
)
"""Ids in a URL's query or in a body: kind, method, path, body, whose `int` is the id."""

_PARAMETER = re.compile(r"\{\w+\}")


class Clients(NamedTuple):
    """An account's clients, by what they come with."""

    login: Rest
    org: Rest
    token: Rest  # of the Privacy API, internal

    def of(self, path: str) -> Rest:
        if path.startswith(EXTERNAL):
            return self.org
        return self.token if "data-subject" in path else self.login


class World(NamedTuple):
    rival: Clients
    shop: Clients
    ids: Mapping[str, str]  # the shop's, by kind


@pytest.fixture
async def world(
    rest: Rest, seeded: Seeded, ledger: AsyncEngine, tmp_path: Path
) -> AsyncIterator[World]:
    async with ledger.begin() as conn:
        rival = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "rival", "Rival", now_s=rest.clock()
        )
    async with AsyncExitStack() as stack:
        made: list[tuple[Clients, External]] = []
        for account in (rival, seeded.shop):
            folder, org = tmp_path / account.public_id, f"{account.public_id}@AdobeOrg"
            sandbox = await stack.enter_async_context(sandbox_of(rest, account, folder, org=org))
            login = await stack.enter_async_context(rest.acting_for(account))
            made.append((Clients(login, sandbox.rest, await _internal(rest, account)), sandbox))
        (other, _), (shop, sandbox) = made
        yield World(other, shop, await _ids(shop, sandbox, seeded, ledger))


async def _internal(rest: Rest, account: Account) -> Rest:
    now_s = rest.clock()
    async with rest.services.ledger.begin() as conn:
        _, token = await privacy_tokens.create(
            conn, account, is_internal=True, note="a tool", now_s=now_s, expires_at_s=now_s + 900
        )
    return replace(rest, headers={"Authorization": f"Bearer {token}"})


async def _ids(
    shop: Clients, sandbox: External, seeded: Seeded, ledger: AsyncEngine
) -> dict[str, str]:
    async with ledger.begin() as conn:
        audience = await audiences.find_or_create_audience(
            conn, seeded.shop, seeded.shop, "666", "The shop's alone", now_s=shop.login.clock()
        )
    job = await delivery(ledger, seeded, JobState.DONE)
    presigned = (await shop.login.ask("POST", "/audience/upload/666", UPLOAD)).body
    campaign = (await shop.login.ask("POST", "/campaign/create", {"name": "spring"})).body["data"]
    wanted = {"name": "Customers", "campaignId": campaign["id"]}
    crm = (await shop.login.ask("POST", "/audience/createcrmaudience", wanted)).body["data"]
    created = (await shop.org.ask("POST", EXTERNAL, sandbox.spec)).body["operationId"]
    external = (await sandbox.operation(created))["audienceId"]
    sandbox.put("a.csv", f"mail\n{PERSON}\n")
    run = (await sandbox.start(external)).body
    access = {"action": "ACCESS", "emailHashes": [PERSON]}
    asked = (await shop.token.ask("POST", "/data-subject-requests", access)).body
    return {
        "segment": "666",
        "upload": presigned["requestId"],
        "audience": str(audience.id),
        "delivery": job.transaction_id,
        "external": external,
        "operation": created,
        "run": run["runId"],
        "request": asked["transactionId"],
        "crm": str(crm["id"]),
        "campaign": str(campaign["id"]),
    }


async def ask(method: str, path: str, client: Rest, ids: Mapping[str, str]) -> Answer:
    """Ask for a published route, with an id of its kind for each parameter."""
    row = ROUTES[method, path]

    def id_of(found: re.Match[str]) -> str:
        start = path[: found.end()]
        kind = KINDS.get(f"{method} {start}") or KINDS.get(start)
        assert kind is not None, f"say in KINDS what {start} names"
        return ids[kind]

    query = (row.path or "").partition("?")[2]
    target = _PARAMETER.sub(id_of, path) + (f"?{query}" if query else "")
    body = BODIES.get(f"{method} {path}", row.body)
    if row.text is None:
        return await client.ask(method, target, body)
    headers = {"Content-Type": "text/plain"}
    return await client.ask(method, target, data=row.text.encode(), headers=headers)


async def ask_elsewhere(
    kind: str, method: str, path: str, body: Any, client: Rest, ids: Mapping[str, str]
) -> Answer:
    """Ask with an id in the query or the body, which is marked there."""
    said = body and {name: int(ids[kind]) if it is int else it for name, it in body.items()}
    return await client.ask(method, path.replace("ID", ids[kind]), said)


def kind_of(method: str, path: str) -> str:
    """Return the kind of a path's last id."""
    *_, last = _PARAMETER.finditer(path)
    start = path[: last.end()]
    return KINDS.get(f"{method} {start}") or KINDS[start]


async def test_anothers_id_is_answered_as_nobodys(world: World) -> None:
    document = (await world.shop.login.ask("GET", "/openapi.json")).body
    questions: list[tuple[str, str, str, Callable[[Rest, Mapping[str, str]], Awaitable[Answer]]]]
    questions = [
        (kind_of(method.upper(), path), method.upper(), path, partial(ask, method.upper(), path))
        for path, methods in document["paths"].items()
        if "{" in path and not path.startswith(SIGNED)
        for method in methods
    ]
    questions += [
        (kind, method, path, partial(ask_elsewhere, kind, method, path, body))
        for kind, method, path, body in NAMED_ELSEWHERE
    ]

    wrong, kinds = [], set(NOBODYS)
    for kind, method, path, put in questions:
        rival = world.rival.of(path)
        anothers, nobodys = await put(rival, world.ids), await put(rival, NOBODYS)
        told = [
            each.raw.replace(b" %s" % ids[kind].encode(), b"")
            for each, ids in ((anothers, world.ids), (nobodys, NOBODYS))
        ]
        if told[0] != told[1] or {anothers.status, nobodys.status} != {HTTPStatus.NOT_FOUND}:
            wrong.append((method, path, anothers.status, told[0], nobodys.status, told[1]))
    assert not wrong, "\n".join(map(str, wrong))

    # The ids are the shop's indeed: it is answered otherwise. What deletes comes last.
    for kind, _, path, put in sorted(questions, key=lambda each: each[1] == "DELETE"):
        if (await put(world.shop.of(path), world.ids)).status != HTTPStatus.NOT_FOUND:
            kinds.discard(kind)
    assert kinds == set()
