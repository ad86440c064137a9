"""The last use of credentials: written seldom, and never the reason that a request fails."""

from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger.last_used import NOTED_EVERY_S
from segments.ledger.live_audience import ssh_keys
from segments.ledger.live_audience.ssh_keys import SshKey
from segments.ledger.privacy import tokens
from segments.ledger.privacy.tokens import PrivacyToken
from segments.ledger.tables import privacy_tokens
from tests.ledger_seed import NOW_S, seed


@dataclass
class Statements:
    """How many transactions that write were begun, by the engine of a test."""

    ledger: AsyncEngine
    begun: int = 0

    def begin(self) -> object:
        self.begun += 1
        return self.ledger.begin()


async def make(conn: AsyncConnection) -> PrivacyToken:
    token, _ = await tokens.create(
        conn, None, is_internal=False, note="t", now_s=NOW_S, expires_at_s=NOW_S + 9
    )
    return token


async def used_at_s(ledger: AsyncEngine) -> int | None:
    async with ledger.connect() as conn:
        (token,) = await tokens.tokens(conn)
    return token.used_at_s


async def test_a_use_is_written_once_in_ten_minutes(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        token = await make(conn)
    assert token.used_at_s is None

    counted = Statements(ledger)
    for after_s in (0.5, NOTED_EVERY_S - 1, NOTED_EVERY_S):
        async with ledger.connect() as conn:
            (read,) = await tokens.tokens(conn)
        await tokens.note_use(counted, read, now_s=NOW_S + after_s)  # type: ignore[arg-type]

    assert await used_at_s(ledger) == NOW_S + NOTED_EVERY_S
    assert counted.begun == 2


async def test_of_requests_at_the_same_time_the_first_is_kept(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        token = await make(conn)

    await tokens.note_use(ledger, token, now_s=NOW_S + 1)
    await tokens.note_use(ledger, token, now_s=NOW_S + 2)  # which had read the same row

    assert await used_at_s(ledger) == NOW_S + 1


async def test_a_use_that_cannot_be_written_fails_nothing(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        token = await make(conn)
        await conn.execute(update(privacy_tokens).values(used_at_s=7))
    read = token._replace(used_at_s=7)
    await ledger.dispose()

    class Away:
        def begin(self) -> object:
            raise OSError("no server")

    await tokens.note_use(Away(), read, now_s=NOW_S)  # type: ignore[arg-type]

    assert await used_at_s(ledger) == 7


async def test_the_same_key_of_two_partners_is_two_rows(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)
    async with ledger.begin() as conn:
        for owner in (seeded.shop, seeded.agency):
            key = SshKey(owner.id, "SHA256:x", "ssh-ed25519 AAAA", "")
            await ssh_keys.add_key(conn, key, now_s=NOW_S)

    await ssh_keys.note_use(ledger, SshKey(seeded.shop.id, "SHA256:x", "", ""), now_s=NOW_S + 5)

    async with ledger.connect() as conn:
        found = {key.account_id: key.used_at_s for key in await ssh_keys.keys(conn)}
    assert found == {seeded.shop.id: NOW_S + 5, seeded.agency.id: None}
