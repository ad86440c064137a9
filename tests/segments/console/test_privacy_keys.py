"""The privacy desk's tokens and keys: made, shown once, removed, and no other account's."""

import re

import pyotp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.privacy import keys, tokens
from segments.ledger.privacy.audit import entries
from segments.model.role import Role
from tests.console import Served
from tests.ledger_seed import Seeded

SECRET = re.compile(r"rtbp_[\w-]{40,}")


@pytest.fixture(scope="module")
def pem() -> str:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


async def acts(ledger: AsyncEngine) -> list[tuple[str, str | None]]:
    async with ledger.connect() as conn:
        return [
            (row["what"], row.get("target"))
            async for row in entries(conn)
            if row["what"] != "login"
        ]


async def test_a_token_is_shown_once_and_works_until_it_is_revoked(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with console.staff_of(Role.PRIVACY) as noor:
        assert "None yet. With a token" in (await noor.see("/privacy/keys")).said
        for days in ("0", "3651", "-1", "1e3", ""):
            refused = await noor.send("/privacy/keys/token", note="tool", days=days)
            assert (refused.status, "1 to 3650 days" in refused.said) == (422, True), days
        made = await noor.send(
            "/privacy/keys/token",
            note="consent tool", days="30", internal="yes", reach=str(seeded.publisher.id),
        )  # fmt: skip
        secret = SECRET.search(made.text)
        assert secret is not None, made.said
        async with ledger.connect() as conn:
            token = await tokens.find(conn, secret[0])
        assert token is not None
        assert (token.account_id, token.is_internal) == (seeded.publisher.id, True)
        assert token.expires_at_s - token.created_at_s == 30 * 86_400
        await tokens.note_use(ledger, token, now_s=1_700_000_000)
        page = await noor.see("/privacy/keys")
        assert SECRET.search(page.text) is None
        for words in ("consent tool", "publisher p", "Opt-outs, reports and searches", "Valid"):
            assert words in page.said
        assert "2023-11-14 22:13" in page.said  # when it was last used
        assert (await noor.send("/privacy/keys/token/revoke", token=str(token.id))).status == 303
        assert "Revoked" in (await noor.see("/privacy/keys")).said
        again = await noor.send("/privacy/keys/token/revoke", token=str(token.id))
        assert (again.status, "revoked already" in again.said) == (409, True)
    assert await acts(ledger) == [("token create", "token 1"), ("token revoke", "token 1")]


async def test_a_key_is_added_and_removed(
    console: Served, seeded: Seeded, ledger: AsyncEngine, pem: str
) -> None:
    async with console.staff_of(Role.PRIVACY) as noor:
        await noor.see("/privacy/keys")
        said = {"domain": "Daily.example", "kid": "key1"}
        wrong = await noor.send("/privacy/keys/key", public_key="PRIVATE", **said)
        assert wrong.status == 422
        assert "Daily.example" in wrong.text  # what was typed is not typed again
        assert (await noor.send("/privacy/keys/key", public_key=pem, **said)).status == 303
        page = await noor.see("/privacy/keys")
        assert "daily.example key1 everyone Opt-outs" in page.said
        twice = await noor.send("/privacy/keys/key", public_key=pem, **said)
        assert (twice.status, "already" in twice.said) == (422, True)
        assert (await noor.send("/privacy/keys/key/remove", **said)).status == 303
    async with ledger.connect() as conn:
        assert await keys.keys(conn) == []
    target = "daily.example/key1"
    assert await acts(ledger) == [("key add", target), ("key remove", target)]


async def test_the_code_is_asked_again_for_what_opens_a_door(
    console: Served, seeded: Seeded, ledger: AsyncEngine, pem: str
) -> None:
    await console.member("noor", Role.PRIVACY)
    async with console.browser() as noor:
        secret = await noor.log_in_staff("noor", console.clock())
        console.clock.ahead_s += 301
        await noor.see("/privacy/keys")
        token = {"note": "tool", "days": "1"}
        key = {"domain": "d.example", "kid": "k", "public_key": pem}
        for path, form in (("token", token), ("key", key)):
            none = await noor.send(f"/privacy/keys/{path}", **form)
            wrong = await noor.send(f"/privacy/keys/{path}", code="000000", **form)
            assert (none.status, wrong.status) == (422, 422)
            assert "Your code is needed" in none.said
            assert "not the code of this moment" in wrong.said
        assert await acts(ledger) == []
        code = pyotp.TOTP(secret).at(int(console.clock()))
        assert "shown this once" in (
            await noor.send("/privacy/keys/token", code=code, **token)
        ).said  # fmt: skip


async def test_a_desk_of_an_account_manages_its_own_alone(
    console: Served, seeded: Seeded, ledger: AsyncEngine, pem: str
) -> None:
    now_s = console.clock()
    async with ledger.begin() as conn:
        # The publisher's requests reach the shop, whose tokens are not its own for that.
        for account in (None, seeded.shop):
            await tokens.create(
                conn, account, is_internal=False, note="others", now_s=now_s, expires_at_s=now_s + 9
            )
        await keys.add_key(conn, "d.example", "k", pem, seeded.shop, is_internal=False, now_s=now_s)
    async with console.staff_of(Role.PRIVACY, account=seeded.publisher) as noor:
        page = await noor.see("/privacy/keys")
        assert "others" not in page.main
        assert "d.example" not in page.main
        assert "Everyone" not in page.main
        for token in ("1", "2", "9"):
            assert (await noor.send("/privacy/keys/token/revoke", token=token)).status == 404
        removed = await noor.send("/privacy/keys/key/remove", domain="d.example", kid="k")
        assert removed.status == 404
        reaching = {"note": "x", "days": "1", "reach": str(seeded.shop.id)}
        assert (await noor.send("/privacy/keys/token", **reaching)).status == 422
        await noor.send("/privacy/keys/token", note="ours", days="1")
    async with ledger.connect() as conn:
        *others, ours = await tokens.tokens(conn)
    assert all(each.revoked_at_s is None for each in others)
    assert (ours.note, ours.account_id) == ("ours", seeded.publisher.id)
