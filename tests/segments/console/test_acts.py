"""Every act of a page: of our own pages alone, with this session's token, and with its row."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import asyncssh
import pytest
from aiohttp import FormData
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.console.same_origin import SAFE
from segments.doors.rest.services import Services
from segments.ledger import activations, audiences, users
from segments.ledger.external_audience import orgs
from segments.ledger.live_audience import ssh_keys
from segments.ledger.privacy.audit import entries
from segments.model.job import JobState
from segments.model.role import Role
from segments.processes.console import pages
from tests.console import Browser, Served
from tests.ledger_seed import Seeded
from tests.rest import PASSWORD
from tests.segments.console.test_pages import BRAKE, delivery
from tests.segments.console.test_roles import OPEN, PATH_TO_ROLES

OTHERS = {
    "cross-site": {"Sec-Fetch-Site": "cross-site"},
    "same-site": {"Sec-Fetch-Site": "same-site"},
    "a foreign origin": {"Origin": "https://evil.example"},
    "neither": {},
}


class Act(NamedTuple):
    """An act that a browser does, and its row in the trail."""

    role: str
    path: str  # as in the table of pages
    what: str
    form: dict[str, str] = {}  # noqa: RUF012 - never changed
    at: str = ""  # the path as asked for


@asynccontextmanager
async def one_of_each(console: Served, seeded: Seeded) -> AsyncIterator[dict[str, Browser]]:
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(console.user_of(seeded.shop))
        async with console.services.ledger.begin() as conn:
            user = await users.user(conn, f"user-{seeded.shop.id}")
            await users.set_admin(conn, user, is_admin=True)
        yield {
            "partner": shop,
            "operator": await stack.enter_async_context(console.staff_of(Role.OPERATOR)),
            "privacy": await stack.enter_async_context(console.staff_of(Role.PRIVACY)),
        }


async def rows(ledger: AsyncEngine) -> list[str]:
    async with ledger.connect() as conn:
        return [row["what"] async for row in entries(conn)]


async def test_no_act_is_done_for_another_page_or_with_another_sessions_token(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with one_of_each(console, seeded) as role_to_browser:
        before = await rows(ledger)
        role_to_token = {role: each.token for role, each in role_to_browser.items()}
        for page in pages():
            if page.method in SAFE or page.path in OPEN:
                continue
            role = PATH_TO_ROLES[page.path].split()[0]
            browser = role_to_browser[role]
            path = page.path.replace("{no:[0-9]{1,18}}", str(seeded.shoes.id))
            path = path.replace("{", "").replace("}", "")
            ours, browser.headers = browser.headers, {}
            for name, headers in OTHERS.items():
                refused = await browser.send(path, headers=headers, _t=role_to_token[role])
                assert (refused.status, "was not sent by a page" in refused.said) == (403, True), (
                    page.path,
                    name,
                )
            browser.headers = ours
            for other, token in role_to_token.items():
                if other != role:
                    refused = await browser.send(path, _t=token)
                    assert refused.status == 403, (page.path, other)
                    assert "was not sent by a page" in refused.said
        assert await rows(ledger) == before


@pytest.fixture(scope="module")
def ssh_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture(scope="module")
def pem() -> str:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


async def test_every_act_leaves_its_row(
    console: Served,
    seeded: Seeded,
    ledger: AsyncEngine,
    ssh_key: asyncssh.SSHKey,
    pem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A withdrawal waits until no bid can show it, which takes seconds each and is tested elsewhere.
    monkeypatch.setattr(Services, "withdraw_from_bids", Services.publish_catalog)
    held = [
        await delivery(ledger, seeded, JobState.HELD, name=name, held_because=BRAKE)
        for name in ("one.txt", "two.txt")
    ]
    await console.user("kim", seeded.shop)
    async with ledger.begin() as conn:
        kim = (await users.user(conn, "kim")).public_id
        sandbox = await orgs.find_or_add_sandbox(conn, "O@AdobeOrg", "prod", seeded.shop, now_s=1)
        api_key = (await orgs.add_credential(conn, sandbox, "u", now_s=1)).api_key
        crm = await audiences.add_audience(conn, seeded.shop, seeded.shop, "CRM", now_s=1)
        await activations.close(conn, crm, now_s=1)
    days = {"recipient": "dsp-a", "from": "2020-01-01", "until": "2040-01-01"}
    shoes, shop = f"/audiences/{seeded.shoes.id}", f"/ops/partners/{seeded.shop.id}"
    no, recipient = "/audiences/{no:[0-9]{1,18}}", "/ops/recipients/{name}"
    partner, logins = "/ops/partners/{partner}", "/logins/{user}"
    released = "/ops/deliveries/{transaction}"
    public_key = ssh_key.export_public_key().decode()
    key = {"domain": "d.example", "kid": "k"}
    address = {"ids": "jane@example.com"}
    acts = [
        Act("partner", "/audiences/new", "audience create", {"name": "New", "ttl": ""}),
        Act("partner", f"{no}/rename", "audience rename", {"name": "Boots"}, f"{shoes}/rename"),
        Act("partner", f"{no}/ttl", "audience ttl", {"ttl": "30"}, f"{shoes}/ttl"),
        Act("partner", f"{no}/deactivate", "audience deactivate", at=f"{shoes}/deactivate"),
        Act("partner", f"{no}/activate", "audience activate", at=f"{shoes}/activate"),
        Act("partner", f"{no}/window", "audience window", days, f"{shoes}/window"),
        *(
            Act("partner", f"{no}/{act}", "audience activation", days, f"/audiences/{crm.id}/{act}")
            for act in ("activation", "activation/end")
        ),
        Act("partner", "/upload", "upload"),
        Act("partner", f"{no}/delete", "audience delete", {"name": "Boots"}, f"{shoes}/delete"),
        Act("partner", "/keys", "ssh key add", {"public_key": public_key}),
        Act("partner", "/keys/remove", "ssh key remove"),
        Act("partner", "/keys/revoke", "org revoke", {"api_key": api_key}),
        Act("partner", "/logins", "user add", {"username": "lee"}),
        Act("partner", "/account/time-zone", "user time zone", {"zone": "Europe/Berlin"}),
        Act("partner", f"{logins}/end", "user end sessions", at=f"/logins/{kim}/end"),
        Act("partner", f"{logins}/password", "user password", at=f"/logins/{kim}/password"),
        Act("partner", f"{logins}/revoke", "user revoke", at=f"/logins/{kim}/revoke"),
        *(
            Act("operator", f"{released}/{act}", f"job {act}", {"reason": "so"}, f"{at}/{act}")
            for act, at in zip(
                ("release", "refuse"),
                (f"/ops/deliveries/{job.transaction_id}" for job in held),
                strict=True,
            )
        ),
        Act("operator", "/ops/playground", "explain", {"request": "{}"}),
        Act("operator", "/ops/recipients", "recipient add", {"name": "dsp-b"}),
        *(
            Act("operator", f"{recipient}/{act}", f"recipient {act}", form, f"{at}/{act}")
            for at in ("/ops/recipients/dsp-b",)
            for act, form in (
                ("grant", {"partner": "shop"}),
                ("revoke", {"partner": "shop"}),
                ("hold-out", {"percent": "5"}),
                ("deactivate", {}),
                ("activate", {}),
            )
        ),
        Act(
            "operator", "/ops/partners", "account add",
            {"kind": "advertiser", "public_id": "new", "name": "New"},
        ),
        *(
            Act("operator", f"{partner}/{act}", f"account {act}", form, f"{shop}/{act}")
            for act, form in (
                ("unrelate", {"publisher": "p"}),
                ("relate", {"publisher": "p"}),
                ("deactivate", {}),
                ("activate", {}),
            )
        ),
        Act("privacy", "/privacy", "ACCESS", {"do": "submit", "action": "ACCESS", **address}),
        Act("privacy", "/privacy/requests/{transaction}/report", "download"),
        Act("privacy", "/privacy/look-up", "search", address),
        Act("privacy", "/privacy/keys/token", "token create", {"note": "n", "days": "1"}),
        Act("privacy", "/privacy/keys/token/revoke", "token revoke", {"token": "1"}),
        Act("privacy", "/privacy/keys/key", "key add", {**key, "public_key": pem}),
        Act("privacy", "/privacy/keys/key/remove", "key remove", key),
        Act("operator", "/logout", "logout"),
        Act(
            "privacy", "/account/password", "staff password",
            {"present": PASSWORD, "new": "one of her own", "again": "one of her own"},
        ),
    ]  # fmt: skip
    done = {act.path for act in acts}
    assert done == {page.path for page in pages() if page.method not in SAFE} - OPEN

    async with one_of_each(console, seeded) as role_to_browser:
        for act in acts:
            browser, form, at = role_to_browser[act.role], act.form, act.at or act.path
            data: FormData | None = None
            if act.path == "/upload":
                data = FormData(quote_fields=False)
                data.add_field("_t", browser.token)
                data.add_field("audience", str(seeded.shoes.id))
                data.add_field("action", "add")
                data.add_field("file", b"0" * 32, filename="people.txt")
            elif act.path == "/keys/remove":
                async with ledger.connect() as conn:
                    (kept,) = await ssh_keys.keys(conn)
                form = {"fingerprint": kept.fingerprint}
            elif act.path.endswith("/report"):
                assert await console.reports.turn() == 1
                async with ledger.connect() as conn:
                    [*_, last] = [row async for row in entries(conn)]
                at = at.replace("{transaction}", last["transaction_id"])
            before = len(await rows(ledger))
            if data is None:
                answer = await browser.send(at, **form)
            else:
                answer = await browser.ask("POST", at, data=data)
            assert answer.status in {200, 303}, (act.path, answer.said)
            assert (await rows(ledger))[before:] == [act.what], act.path
