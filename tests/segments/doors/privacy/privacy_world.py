"""What the tests of the Privacy API start from: the doors, tokens, one of every account."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ledger.privacy import audit
from segments.ledger.privacy import tokens as privacy_tokens
from segments.model.account import Account
from segments.model.identity import Id, id_of_email_hash
from segments.model.record import Change, Record
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.rest import Answer, Rest, serving
from tests.segments.doors.rest.rest_world import hashes

ADA, BOB, EVE = hashes("ada", "bob", "eve")
REQUESTS = "/data-subject-requests"


@dataclass
class PrivacyDoors:
    """The doors, and what the store and the ledger hold."""

    rest: Rest
    seeded: Seeded
    redis: Redis

    async def bearer(
        self, account: Account | None = None, *, is_internal: bool = False, days: int = 1
    ) -> Rest:
        """Return a client with a token of its own."""
        now_s = self.rest.clock()
        async with self.rest.services.ledger.begin() as conn:
            _, token = await privacy_tokens.create(
                conn,
                account,
                is_internal=is_internal,
                note="test",
                now_s=now_s,
                expires_at_s=now_s + days * 86_400,
            )
        return replace(self.rest, headers={"Authorization": f"Bearer {token}"})

    async def submit(self, client: Rest, action: str, *digests: str, **said: Any) -> Answer:
        body = {"action": action, "emailHashes": list(digests), **said}
        return await client.ask("POST", REQUESTS, body)

    async def taken(self, client: Rest, action: str, *digests: str, **said: Any) -> str:
        """Submit a request that must be taken, and return its transaction id."""
        answer = await self.submit(client, action, *digests, **said)
        assert answer.status == 202, answer
        transaction_id: str = answer.body["transactionId"]
        return transaction_id

    async def add_members(self, *digests: str) -> None:
        """Put persons into the shop's and the sub account's audience."""
        writer = Writer(self.redis, await read_meta(self.redis))
        both = [Change(self.seeded.shoes.id, True, 3000), Change(self.seeded.hats.id, True)]
        await writer.merge([id_of_email_hash(digest) for digest in digests], both)

    async def record(self, digest: str) -> Record:
        return await self.record_of_id(id_of_email_hash(digest))

    async def record_of_id(self, id_: Id) -> Record:
        (record,) = await read_records(self.redis, await read_meta(self.redis), [id_])
        return record

    async def trail(self) -> list[dict[str, Any]]:
        """Return the audit trail."""
        async with self.rest.services.ledger.connect() as conn:
            return [row async for row in audit.entries(conn)]

    async def count(self, table: str) -> int:
        async with self.rest.services.ledger.connect() as conn:
            rows = await conn.exec_driver_sql(f"select count(*) from {table}")
            return int(rows.scalar_one())

    async def report(self, internal: Rest, transaction_id: str) -> Any:
        """Make what is due, and follow the links to a report as whoever got them does."""
        await self.rest.reports.turn()
        told = await internal.ask("GET", f"{REQUESTS}/{transaction_id}")
        assert told.status == 200, told
        led = await self.rest.ask("GET", told.body["downloadUrl"], allow_redirects=False)
        assert led.status == 303, led
        return (await self.rest.ask("GET", led.headers["Location"])).body


@asynccontextmanager
async def privacy_world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, blobs: Blobs | None = None
) -> AsyncIterator[PrivacyDoors]:
    seeded = await seed(ledger)
    async with connect(valkey.url, retry=None) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving(settings, ledger, redis, blobs) as rest:
            yield PrivacyDoors(rest, seeded, redis)
