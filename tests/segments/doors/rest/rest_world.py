"""What the tests of the audience API start from: the doors, a loader, two partners."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import jobs
from segments.loader.loader import Loader
from segments.model.identity import id_of_email_hash
from segments.model.job import Job, JobState
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.rest import Rest, serving


def hashes(*names: str, kind: str = "sha256") -> list[str]:
    return [hashlib.new(kind, f"{name}@example.com".encode()).hexdigest() for name in names]


def text_of(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@dataclass
class RestDoors:
    """The shop's client, and what the store and the ledger hold."""

    rest: Rest  # logged in for the shop
    seeded: Seeded
    redis: Redis

    @property
    def loader(self) -> Loader:
        services = self.rest.services
        return Loader(
            self.rest.settings.loader_options, services.ledger, self.redis, services.blobs
        )

    async def presign(self, **said: str) -> tuple[str, str]:
        """Return a request id and a URL."""
        form = {"filename": "add.sha2.txt", "action": "add", "type": "sha2", **said}
        answer = await self.rest.ask("POST", "/audience/upload/123", form)
        assert answer.status == 200, answer
        return answer.body["requestId"], answer.body["output"]["presignedURI"]

    async def status(self, request_id: str) -> dict[str, object]:
        answer = await self.rest.ask("GET", f"/audience/upload/{request_id}")
        assert answer.status == 200, answer
        output: dict[str, object] = answer.body["output"]
        return output

    async def load_all(self) -> list[Job]:
        """Do what the loader does, until no job is left."""
        done = []
        loader = self.loader
        await loader.catch_up()
        while (job := await loader.claim()) is not None:
            done.append(await loader.run_one(job, asyncio.Event()))
        return done

    async def jobs(self) -> list[Job]:
        async with self.rest.services.ledger.connect() as conn:
            return list(await jobs.jobs(conn, 100))

    async def states(self) -> list[JobState]:
        return [job.state for job in await self.jobs()]

    async def audiences_of(self, digest: str) -> set[int]:
        """Return the audiences of one person, as the store has them."""
        meta = await read_meta(self.redis)
        (record,) = await read_records(self.redis, meta, [id_of_email_hash(digest)])
        return {membership.audience_id for membership in record.memberships}


@asynccontextmanager
async def world_of(rest: Rest, seeded: Seeded) -> AsyncIterator[RestDoors]:
    async with rest.acting_for(seeded.shop) as shop:
        yield RestDoors(shop, seeded, rest.services.redis)


@asynccontextmanager
async def world_served(
    settings: Settings, ledger: AsyncEngine, store: Engine
) -> AsyncIterator[RestDoors]:
    """The same, on doors over a store that is laid out."""
    seeded = await seed(ledger)
    async with connect(store.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving(settings, ledger, redis) as rest, world_of(rest, seeded) as world:
            yield world
