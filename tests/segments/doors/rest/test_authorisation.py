"""
Every route that the doors publish, asked by every kind of identity.

The routes are those of `/openapi.json`, and each has a row here: a new one without a row fails,
and so does a row of a route that is gone. A row says what the route is asked for, of the shop's
own where it is for something, and what each identity is answered.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import audiences
from segments.ledger.privacy import tokens as privacy_tokens
from segments.model.account import Account
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.rest import PASSWORD, Rest, serving
from tests.segments.doors.external_audience.external_world import sandbox_of

PERSON = hashlib.sha256(b"ada@example.com").hexdigest()
REFUSED: Final = (401, 403)

NOBODY, GARBAGE, ENDED = "nobody", "a token of nobody", "a login that was revoked"
SHOP, AGENCY, COOKIE = "the shop's login", "another partner's login", "the shop's cookie"
ORG, ORG_ALONE = "an org's token", "an org's token without its headers"
INTERNAL, OF_SHOP = "an internal privacy token", "the shop's privacy token"
REVOKED = "a privacy token that was revoked"
IDENTITIES = (
    NOBODY, GARBAGE, ENDED, SHOP, AGENCY, COOKIE, ORG, ORG_ALONE, INTERNAL, OF_SHOP, REVOKED
)  # fmt: skip


class Row(NamedTuple):
    """What a route is asked, and what identities are answered; the others are refused."""

    answers: Mapping[str, int]
    path: str | None = None
    body: Any = None
    text: str | None = None


def everybody(status: int, **asked: Any) -> Row:
    """Answer whoever asks alike: the request itself says what it needs to, or nothing."""
    return Row(dict.fromkeys(IDENTITIES, status), **asked)


def login(shop: int, agency: int, **asked: Any) -> Row:
    return Row({SHOP: shop, AGENCY: agency}, **asked)


def crm(shop: int, agency: int, **asked: Any) -> Row:
    return Row({SHOP: shop, COOKIE: shop, AGENCY: agency}, **asked)


def org(status: int, **asked: Any) -> Row:
    return Row({ORG: status}, **asked)


def privacy(internal: int, of_shop: int, **asked: Any) -> Row:
    return Row({INTERNAL: internal, OF_SHOP: of_shop}, **asked)


WRONG = {"username": "nobody", "password": "wrong, and long enough"}
RESTRICT = {"action": "RESTRICT", "emailHashes": [PERSON]}
ACCESS = {**RESTRICT, "action": "ACCESS"}
UPLOAD = {"filename": "add.sha2.txt", "action": "add", "type": "sha2"}
EXTERNAL = "/core/ais/external-audience"
NOWHERE = "00000000-0000-4000-8000-000000000000"

ROUTES: dict[tuple[str, str], Row] = {
    # Passwords, and tokens that are their own proof.
    ("POST", "/login"): everybody(401, body=WRONG),
    ("POST", "/login/refresh"): everybody(401, body={"refreshToken": "x"}),
    ("POST", "/login/revoke"): everybody(204, body={"refreshToken": "x"}),
    ("POST", "/account/login"): everybody(401, body={"userName": "x", "password": "wrong"}),
    # Signed URLs and signed requests.
    ("PUT", "/uploads/{action}/{key}/{filename}"): everybody(
        403, path="/uploads/add/k/n", text="x"
    ),
    ("GET", "/data-subject-report/{transactionId}"): everybody(
        403, path="/data-subject-report/x?expiresAt=1&signature=x"
    ),
    ("GET", "/reports/{transactionId}.json"): everybody(403, path="/reports/x.json"),
    ("POST", "/dsr"): everybody(403, body={"jwt": "x"}),
    ("POST", "/ping"): everybody(403, body={"jwt": "x"}),
    ("GET", "/oath"): everybody(403, path="/oath?dataSubjectRequest=x"),
    ("GET", "/submit"): everybody(403, path="/submit?dsr=x"),
    # LiveIntent's Audience API.
    ("POST", "/audience"): login(400, 400, body={}),
    ("POST", "/audience/upload/{id}"): login(200, 404, path="/audience/upload/666", body=UPLOAD),
    ("GET", "/audience/upload/{id}"): login(200, 404, path="/audience/upload/UPLOAD"),
    ("POST", "/realtime/audience/{id}"): login(
        200, 404, path="/realtime/audience/666?action=add&type=sha2", text=PERSON
    ),
    ("GET", "/audiences"): login(200, 200),
    ("POST", "/audiences"): login(400, 400, body={}),
    ("GET", "/audiences/{audienceId}"): login(200, 404, path="/audiences/NUMBER"),
    ("PATCH", "/audiences/{audienceId}"): login(
        200, 404, path="/audiences/NUMBER", body={"name": "The shop's"}
    ),
    ("GET", "/audiences/{audienceId}/counts"): login(200, 404, path="/audiences/NUMBER/counts"),
    ("GET", "/audiences/{audienceId}/uploads"): login(200, 404, path="/audiences/NUMBER/uploads"),
    ("POST", "/audiences/{audienceId}/signed-urls"): login(
        201,
        404,
        path="/audiences/NUMBER/signed-urls",
        body={"identifierType": "sha2", "action": "add"},
    ),
    ("POST", "/search/audiences"): login(200, 200, body={}),
    ("POST", "/search/audiences/v2"): login(200, 200, body={}),
    # What partners read beside it.
    ("GET", "/deliveries"): login(200, 404, path="/deliveries?audience=NUMBER"),
    ("GET", "/deliveries/{transactionId}"): login(404, 404, path="/deliveries/0000000000000000"),
    ("GET", "/recipients"): login(200, 200),
    ("GET", "/audit"): login(200, 200),
    # Adobe's external audiences.
    ("POST", EXTERNAL): org(400, body={}),
    ("GET", f"{EXTERNAL}/operations/{{operationId}}"): org(
        404, path=f"{EXTERNAL}/operations/{NOWHERE}"
    ),
    ("PATCH", f"{EXTERNAL}/{{audienceId}}"): org(
        404, path=f"{EXTERNAL}/{NOWHERE}", body={"name": "x"}
    ),
    ("DELETE", f"{EXTERNAL}/{{audienceId}}"): org(404, path=f"{EXTERNAL}/{NOWHERE}"),
    ("POST", f"{EXTERNAL}/{{audienceId}}/runs"): org(
        400, path=f"{EXTERNAL}/{NOWHERE}/runs", body={}
    ),
    ("GET", f"{EXTERNAL}/{{audienceId}}/runs"): org(404, path=f"{EXTERNAL}/{NOWHERE}/runs"),
    ("GET", f"{EXTERNAL}/{{audienceId}}/runs/{{runId}}"): org(
        404, path=f"{EXTERNAL}/{NOWHERE}/runs/{NOWHERE}"
    ),
    # LiveIntent's Privacy Management API.
    ("POST", "/data-subject-requests"): privacy(202, 403, body=ACCESS),
    ("POST", "/data-subject-requests/test"): privacy(202, 202, body=RESTRICT),
    ("GET", "/data-subject-requests/{transactionId}"): privacy(
        404, 403, path=f"/data-subject-requests/{'0' * 32}"
    ),
    ("POST", "/search/data-subject-requests"): privacy(200, 403, body={"emailHashes": [PERSON]}),
    # digitalAudience's CRM audiences.
    ("POST", "/campaign/createcampaign"): crm(400, 400, body={}),
    ("POST", "/campaign/create"): crm(400, 400, body={}),
    ("GET", "/organisation/loadplatformaccounts"): crm(200, 200),
    ("GET", "/organistion/loadplatformaccounts"): crm(200, 200),
    ("POST", "/audience/createcrmaudience"): crm(400, 400, body={}),
    ("POST", "/audience/create/api/audience/createcrmaudience"): crm(400, 400, body={}),
    ("POST", "/audience/update"): crm(400, 400, body={}),
    ("POST", "/audience/activate"): crm(400, 400, body={}),
    ("GET", "/audience/loadAudienceById/{audienceId}"): crm(
        404, 404, path="/audience/loadAudienceById/4711"
    ),
    ("DELETE", "/audience/delete"): crm(404, 404, path="/audience/delete?audienceId=4711"),
    ("POST", "/account/logout"): everybody(200),  # behind all else: it ends what it is asked with
}


class Doors(NamedTuple):
    """The doors, and what each identity sends along."""

    rest: Rest
    headers: Mapping[str, Mapping[str, str]]
    upload_id: str  # of the shop
    number: int  # of the shop's audience

    async def ask(self, method: str, path: str, row: Row, identity: str) -> int:
        """Return the status that an identity is answered."""
        asked: dict[str, Any] = {} if row.text is None else {"data": row.text.encode()}
        kind = {} if row.text is None else {"Content-Type": "text/plain"}
        target = (row.path or path).replace("UPLOAD", self.upload_id)
        target = target.replace("NUMBER", str(self.number))
        answer = await self.rest.ask(
            method, target, row.body, headers={**self.headers[identity], **kind}, **asked
        )
        return answer.status


@pytest.fixture
async def doors(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[Doors]:
    """The doors, and one of each identity."""
    seeded = await seed(ledger)
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving(settings, ledger, redis) as rest:
            async with ledger.begin() as conn:
                made = await audiences.find_or_create_audience(
                    conn, seeded.shop, seeded.shop, "666", "The shop's alone", now_s=rest.clock()
                )
            headers = await identities(rest, seeded)
            shop = {**headers[SHOP]}
            answer = await rest.ask("POST", "/audience/upload/666", UPLOAD, headers=shop)
            yield Doors(rest, headers, answer.body["requestId"], made.id)


async def identities(rest: Rest, seeded: Seeded) -> Mapping[str, Mapping[str, str]]:
    shop = await _login(rest, seeded.shop)
    revoked = (await rest.login(_name(seeded.shop))).body
    await rest.ask("POST", "/login/revoke", {"refreshToken": revoked["refreshToken"]})
    async with sandbox_of(rest, seeded.shop, rest.settings.data_dir / "org") as external:
        sandbox = external.rest.headers
    cookie = (await rest.login(_name(seeded.shop))).body["token"]
    return {
        NOBODY: {},
        GARBAGE: _bearer("a.b.c"),
        ENDED: _bearer(revoked["token"]),
        SHOP: _bearer(shop),
        AGENCY: _bearer(await _login(rest, seeded.agency)),
        COOKIE: {"Cookie": f"digitalAudience={cookie}"},
        ORG: sandbox,
        ORG_ALONE: {"Authorization": sandbox["Authorization"]},
        INTERNAL: _bearer(await _privacy_token(rest, None, is_internal=True)),
        OF_SHOP: _bearer(await _privacy_token(rest, seeded.shop)),
        REVOKED: _bearer(await _privacy_token(rest, None, is_internal=True, is_revoked=True)),
    }


def _name(account: Account) -> str:
    return f"user-{account.id}"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _login(rest: Rest, account: Account) -> str:
    await rest.user(_name(account), account)
    token: str = (await rest.login(_name(account), PASSWORD)).body["token"]
    return token


async def _privacy_token(
    rest: Rest, account: Account | None, *, is_internal: bool = False, is_revoked: bool = False
) -> str:
    now_s = rest.clock()
    async with rest.services.ledger.begin() as conn:
        made, token = await privacy_tokens.create(
            conn,
            account,
            is_internal=is_internal,
            note="test",
            now_s=now_s,
            expires_at_s=now_s + 86_400,
        )
        if is_revoked:
            await privacy_tokens.revoke(conn, made.id, now_s=now_s)
    return token


async def test_every_route_has_a_row_and_every_row_a_route(doors: Doors) -> None:
    document = (await doors.rest.ask("GET", "/openapi.json")).body

    published = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }

    assert published == ROUTES.keys()


async def test_every_identity_is_answered_as_its_row_says(doors: Doors) -> None:
    wrong = []
    for (method, path), row in ROUTES.items():
        for identity in IDENTITIES:
            if path.endswith("/login"):
                doors.rest.clock.ahead_s += 31  # failures that are counted are another test's
            status = await doors.ask(method, path, row, identity)
            expected = (row.answers[identity],) if identity in row.answers else REFUSED
            if status not in expected:
                wrong.append(f"{method} {path} by {identity}: {status}, not {expected}")

    assert not wrong, "\n".join(wrong)


async def test_operation_that_needs_a_caller_says_so_in_the_document(doors: Doors) -> None:
    """
    And one that does not is in no door's hands but those of a signature or a password.
    """
    document = (await doors.rest.ask("GET", "/openapi.json")).body
    open_ = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not operation.get("security")
    }

    assert open_ == {route for route, row in ROUTES.items() if NOBODY in row.answers}
