"""What the tests of the CRM doors start from: a client that has logged in, deliveries, bids."""

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from rtb.catalog import Catalog, Segment
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blob import Blob
from segments.model.identity import Id
from segments.model.job import Job
from segments.model.order import FIRST_GIVEN_ID
from segments.settings import Settings
from segments.store import keys
from segments.store.reader import read_catalog, read_meta, read_records
from segments.upkeep.rebuild import rebuild
from tests.engines import Engine
from tests.rest import PASSWORD, Answer
from tests.segments.doors.rest.rest_world import RestDoors, world_served
from tests.segments.ingest.deliveries import as_json, metadata_of


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def csv_of(*rows: tuple[str, ...], head: str = "EMAIL,PHONE,POSTALADDRESS,AAID") -> bytes:
    return "".join(f"{line}\r\n" for line in [head, *(",".join(row) for row in rows)]).encode()


USER = "jane@shop.example"
DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"
ALICE, BOB, CAROL = (sha256(f"{name}@example.com") for name in ("alice", "bob", "carol"))
PHONE, ADDRESS = sha256("31612345678"), sha256("1234AB 5")
FILE = csv_of(
    (ALICE, PHONE, ADDRESS, DEVICE),
    (BOB, PHONE, "", ""),
    (BOB, "", ADDRESS, ""),
    ("carol@example.com", "", ADDRESS, ""),
)


@dataclass
class Crm:
    """A user of the shop, by the cookie of a login."""

    world: RestDoors
    cookie: str = ""

    async def login(self, username: str, password: str = PASSWORD) -> Answer:
        said = {"userName": username, "password": password}
        answer = await self.world.rest.ask("POST", "/account/login", said, headers=NOBODY)
        if answer.status == 200:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return answer

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        headers = {**NOBODY, **({"Cookie": self.cookie} if self.cookie else {})}
        return await self.world.rest.ask(method, path, body, headers=headers, **options)

    async def data(self, method: str, path: str, body: Any = None) -> Any:
        """Ask what must succeed, and return its data."""
        answer = await self.ask(method, path, body)
        assert answer.status == 200, answer
        assert answer.body["status"] == {"statusCode": 0, "message": None}
        assert answer.body["success"] is True
        return answer.body["data"]

    async def audience(self, name: str = "Customers") -> int:
        """Create a campaign and an audience in it."""
        campaign = await self.data("POST", "/campaign/createcampaign", {"name": "api_camp"})
        created = await self.data(
            "POST", "/audience/createcrmaudience", {"name": name, "campaignId": campaign["id"]}
        )
        number: int = created["id"]
        return number

    async def load(self, audience_id: int) -> Any:
        return await self.data("GET", f"/audience/loadAudienceById/{audience_id}")

    async def activate(self, audience_id: int, **said: Any) -> Any:
        now_s = self.world.rest.clock()
        form = {
            "audienceId": audience_id,
            "accountId": self.world.seeded.dsp.id,
            "name": "Customers on dsp-a",
            "description": "",
            "startDate": iso(now_s - 60),
            "endDate": iso(now_s + 60),
            **said,
        }
        return await self.data("POST", "/audience/activate", form)

    async def deliver(
        self, audience_id: int, content: bytes, *, action: str = "add", records: int, **more: Any
    ) -> Job:
        """Deliver a file as LiveAudience's document says; the loader has not seen it yet."""
        segments = more.pop("segments", [(str(audience_id), action)])
        metadata = metadata_of(content, records=records, segments=segments)
        metadata["partner_id"] = "shop"
        services = self.world.rest.services
        return await accept(
            services.ledger,
            services.blobs,
            read_metadata(as_json(metadata)),
            [content],
            door="test",
            file_name="people.csv",
            now_s=time.time(),
        )

    async def members(self, audience_id: int, ids: Sequence[Id]) -> list[bool]:
        """Tell which ids the store has in an audience."""
        redis = self.world.redis
        records = await read_records(redis, await read_meta(redis), ids)
        number = audience_id - FIRST_GIVEN_ID  # the ledger's
        return [number in {m.audience_id for m in record.memberships} for record in records]

    def kept(self, job: Job) -> Blob:
        return self.world.rest.services.blobs.get(job.blob)


NOBODY = {"Authorization": ""}
"""Instead of the token that the client of `RestDoors` sends."""


def iso(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[RestDoors]:
    """The REST doors over this ledger, with a store and the loader's own code."""
    async with world_served(settings, ledger, valkey) as world:
        yield world


@pytest.fixture
async def crm(world: RestDoors) -> Crm:
    """A user of the shop, who has logged in."""
    await world.rest.user(USER, world.seeded.shop)
    crm = Crm(world)
    assert (await crm.login(USER)).status == 200
    return crm


async def shown_to(world: RestDoors, recipient: str | None) -> dict[int, Segment]:
    """Return what the bid path would show a recipient, by audience."""
    known = Catalog.from_snapshot(await read_catalog(world.redis)).recipient(recipient)
    assert known is not None
    return dict(known.segments)


async def records_of(crm: Crm) -> dict[Any, Any]:
    redis = crm.world.redis
    found = redis.scan_iter(keys.BUCKET_PREFIX + b"*")
    return {key: await redis.hgetall(key) async for key in found}


async def rebuild_from(crm: Crm) -> None:
    tools = crm.world.loader._tools
    await rebuild(tools, crm.world.rest.settings.expected_ids, settle_s=0)
