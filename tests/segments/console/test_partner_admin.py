"""A partner's own keys and logins: for its admins, of its own account, each with its row."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import users
from segments.ledger.external_audience import orgs
from segments.ledger.live_audience import ssh_keys
from segments.ledger.live_audience.host_keys import keep_first_key
from segments.ledger.privacy.audit import entries
from segments.model.account import Account
from tests.console import Browser, Served
from tests.ledger_seed import Seeded

OWN_PASSWORD = "a password of her own"


@pytest.fixture(scope="module")
def public_key() -> str:
    key = asyncssh.generate_private_key("ssh-ed25519", comment="laptop")
    return key.export_public_key().decode()


@asynccontextmanager
async def admin_of(console: Served, account: Account) -> AsyncIterator[Browser]:
    async with console.user_of(account) as browser:
        async with console.services.ledger.begin() as conn:
            user = await users.user(conn, f"user-{account.id}")
            await users.set_admin(conn, user, is_admin=True)
        yield browser


async def acts(ledger: AsyncEngine) -> list[tuple[str, str]]:
    async with ledger.connect() as conn:
        return [
            (row["what"], row["target"])
            async for row in entries(conn)
            if row["what"] not in ("login", "logout")
        ]


async def public_id_of(ledger: AsyncEngine, username: str) -> str:
    async with ledger.connect() as conn:
        return (await users.user(conn, username)).public_id


async def test_an_admin_adds_a_key_and_removes_it(
    console: Served, seeded: Seeded, ledger: AsyncEngine, public_key: str
) -> None:
    async with admin_of(console, seeded.shop) as shop:
        page = await shop.see("/keys")
        assert "Add one, and SFTP is open to you" in page.said
        assert "host key" not in page.said  # before the first start of an SFTP server
        ours = asyncssh.generate_private_key("ssh-ed25519")
        async with ledger.begin() as conn:
            await keep_first_key(conn, "ssh-ed25519", ours.export_private_key(), now_s=1)
        page = await shop.see("/keys")
        assert f"one of {ours.get_fingerprint()} (ssh-ed25519)" in page.said
        wrong = await shop.send("/keys", public_key="-----BEGIN OPENSSH PRIVATE KEY-----")
        assert (wrong.status, "This is a private key" in wrong.said) == (422, True)
        assert (await shop.send("/keys", public_key=public_key)).location == "/keys?done=saved"
        async with ledger.connect() as conn:
            (key,) = await ssh_keys.of_partner(conn, "shop")
        page = await shop.see("/keys")
        assert key.fingerprint in page.said
        assert "laptop" in page.said
        again = await shop.send("/keys", public_key=public_key)
        assert (again.status, "already" in again.said) == (422, True)
        async with admin_of(console, seeded.agency) as agency:
            await agency.see("/keys")
            other = await agency.send("/keys/remove", fingerprint=key.fingerprint)
            assert other.status == 404
        await shop.send("/keys/remove", fingerprint=key.fingerprint)
    async with ledger.connect() as conn:
        assert await ssh_keys.of_partner(conn, "shop") == []
    assert await acts(ledger) == [("ssh key add", "shop"), ("ssh key remove", "shop")]


async def test_a_credential_is_revoked_by_its_own_account_alone(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with ledger.begin() as conn:
        sandbox = await orgs.find_or_add_sandbox(conn, "O@AdobeOrg", "prod", seeded.shop, now_s=1)
        made = await orgs.add_credential(conn, sandbox, "u", now_s=1)
    async with admin_of(console, seeded.shop) as shop, admin_of(console, seeded.agency) as agency:
        assert made.api_key not in (await agency.see("/keys")).text
        assert (await agency.send("/keys/revoke", api_key=made.api_key)).status == 404
        page = await shop.see("/keys")
        assert made.api_key in page.text
        assert made.token not in page.text
        await shop.send("/keys/revoke", api_key=made.api_key)
        assert "Revoked" in (await shop.see("/keys")).said
    assert await acts(ledger) == [("org revoke", "O@AdobeOrg")]


async def test_a_new_login_gets_a_password_once_and_changes_it_first(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with admin_of(console, seeded.shop) as shop:
        await shop.see("/logins")
        taken = await shop.send("/logins", username=f"user-{seeded.shop.id}")
        assert (taken.status, "already" in taken.said) == (422, True)
        added = await shop.send("/logins", username="kim")
        found = re.search(r'<code class="mono wrap">([^<]+)</code>', added.text)
        assert found is not None, added.said
        assert found[1] not in (await shop.see("/logins")).text
        async with console.browser() as kim:
            await kim.log_in("kim", found[1])
            assert (await kim.see("/audiences")).location == "/account?done=first"
            fields = {"present": found[1], "new": OWN_PASSWORD, "again": OWN_PASSWORD}
            assert (await kim.send("/account/password", **fields)).status == 303
            await kim.log_in("kim", OWN_PASSWORD)
            assert (await kim.see("/audiences")).status == 200
            assert "Add a login" not in (await kim.see("/logins")).said  # no admin
            kims = f"/logins/{await public_id_of(ledger, 'kim')}"
            for act in ("/keys", "/keys/remove", "/keys/revoke", "/logins", f"{kims}/revoke"):
                refused = await kim.send(act)
                assert (refused.status, "an admin of your account" in refused.said) == (403, True)
            assert (await shop.send(f"{kims}/end")).status == 303
            assert (await kim.see("/audiences")).location.startswith("/login")
        again = await shop.send(f"{kims}/password")
        assert "shown this once" in again.said
        await shop.send(f"{kims}/revoke")
        assert "Revoked" in (await shop.see("/logins")).said
        own = await public_id_of(ledger, f"user-{seeded.shop.id}")
        assert (await shop.send(f"/logins/{own}/revoke")).status == 409
        async with admin_of(console, seeded.agency) as agency:
            assert "kim" not in (await agency.see("/logins")).text
            for act in ("end", "password", "revoke"):
                assert (await agency.send(f"{kims}/{act}")).status == 404
    assert await acts(ledger) == [
        ("user add", "kim"),
        ("user password", "kim"),
        ("user end sessions", "kim"),
        ("user password", "kim"),
        ("user revoke", "kim"),
    ]
