"""What the tests of external audiences start from: an org's sandbox, its client, its folder."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.external_audience import base_connections, orgs
from segments.loader.loader import Loader
from segments.model.account import Account
from segments.model.identity import Id
from segments.model.job import Job
from segments.model.record import Record
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.rest import Answer, Rest, serving

ORG = "0123456789ABCDEF@AdobeOrg"
BASE = "/core/ais/external-audience"
FIELDS: list[dict[str, Any]] = [
    {"name": "mail", "type": "string", "identityNs": "email"},
    {"name": "list_id", "type": "string", "labels": ["core/C2"]},
]


@dataclass
class External:
    """A client of one sandbox, and what the store and the ledger hold."""

    rest: Rest  # with the sandbox's four headers
    folder: Path  # which its base connection is
    connection_id: str
    redis: Redis

    @property
    def spec(self) -> dict[str, Any]:
        return {
            "name": "Sample external audience",
            "description": "A sample",
            "fields": FIELDS,
            "sourceSpec": {
                "path": "in",
                "type": "folder",
                "sourceType": "Cloud Storage",
                "baseConnectionId": self.connection_id,
            },
            "ttlInDays": "40",
            "labels": ["core/C1"],
            "audienceType": "people",
            "originName": "CUSTOM_UPLOAD",
        }

    async def create(self, **said: Any) -> str:
        """Create an audience, wait for it, and return its id."""
        answer = await self.rest.ask("POST", BASE, {**self.spec, **said})
        assert answer.status == 202, answer
        operation = await self.operation(answer.body["operationId"])
        assert operation["status"] == "SUCCESS", operation
        audience_id: str = operation["audienceId"]
        return audience_id

    async def operation(self, operation_id: str) -> Any:
        """Ask for an operation until it is over."""
        async with asyncio.timeout(30):
            while True:
                answer = await self.rest.ask("GET", f"{BASE}/operations/{operation_id}")
                assert answer.status == 200, answer
                if answer.body["status"] != "PROCESSING":
                    return answer.body
                await asyncio.sleep(0.01)

    def put(self, name: str, content: str | bytes, at_s: float | None = None) -> Path:
        """Put a file into the customer's folder."""
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        at_s = self.rest.clock() - 5 if at_s is None else at_s
        os.utime(path, (at_s, at_s))
        return path

    async def start(self, audience_id: str, **said: Any) -> Answer:
        """Ask for an ingestion of everything."""
        form = {"dataFilterStartTime": 1, **said}
        return await self.rest.ask("POST", f"{BASE}/{audience_id}/runs", form)

    async def run(self, audience_id: str, **said: Any) -> Any:
        """Begin an ingestion, carry it, and return its status."""
        started = await self.start(audience_id, **said)
        assert started.status == 200, started
        await self.load_all()
        return await self.status(audience_id, started.body["runId"])

    async def status(self, audience_id: str, run_id: str) -> Any:
        answer = await self.rest.ask("GET", f"{BASE}/{audience_id}/runs/{run_id}")
        assert answer.status == 200, answer
        return answer.body

    def loader(self) -> Loader:
        """Make a loader."""
        services = self.rest.services
        return Loader(
            self.rest.settings.loader_options,
            services.ledger,
            self.redis,
            services.blobs,
            now_s=services.now_s,
        )

    async def load_all(self) -> list[Job]:
        """Do what the loader does, until no job is left."""
        loader = self.loader()
        await loader.catch_up()
        done = []
        while (job := await loader.claim()) is not None:
            done.append(await loader.run_one(job, asyncio.Event()))
        return done

    async def records(self, ids: Sequence[Id]) -> list[Record]:
        return await read_records(self.redis, await read_meta(self.redis), ids)

    async def members(self, ids: Sequence[Id]) -> list[bool]:
        """Tell which of some persons are in any audience."""
        return [bool(record.memberships) for record in await self.records(ids)]


@asynccontextmanager
async def sandbox_of(
    rest: Rest, account: Account, folder: Path, *, org: str = ORG, sandbox: str = "prod"
) -> AsyncIterator[External]:
    """Make a sandbox with a base connection, and give a client of it."""
    services = rest.services
    (folder / "in").mkdir(parents=True)
    async with services.ledger.begin() as conn:
        made = await orgs.find_or_add_sandbox(conn, org, sandbox, account, now_s=rest.clock())
        credential = await orgs.add_credential(conn, made, "jane", now_s=rest.clock())
        connection = await base_connections.add_connection(
            conn, made, "folder", folder.as_uri(), {}, now_s=rest.clock()
        )
    headers = {
        "Authorization": f"Bearer {credential.token}",
        "x-api-key": credential.api_key,
        "x-gw-ims-org-id": org,
        "x-sandbox-name": sandbox,
    }
    client = Rest(
        rest.url, rest.settings, services, rest.clock, rest.session, rest.reports, headers
    )
    yield External(client, folder, connection.public_id, services.redis)


@asynccontextmanager
async def external_of(rest: Rest, seeded: Seeded, folder: Path) -> AsyncIterator[External]:
    """The shop's sandbox."""
    async with sandbox_of(rest, seeded.shop, folder) as external:
        yield external


@asynccontextmanager
async def external_served(
    settings: Settings,
    ledger: AsyncEngine,
    store: Engine,
    folder: Path,
    seeded: Seeded | None = None,
) -> AsyncIterator[External]:
    """The shop's sandbox, on doors over a store that is laid out; `seeded`: if that was done."""
    seeded = seeded or await seed(ledger)
    async with connect(store.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with (
            serving(settings, ledger, redis) as rest,
            external_of(rest, seeded, folder) as external,
        ):
            yield external
