"""A drop folder with its ledger, its store and a loader, and partners who write to it."""

import asyncio
import json
from typing import Any

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.codes import DESCRIPTIONS
from segments.doors.live_audience.drop import Drop
from segments.doors.live_audience.folder import DropFolder, Folder
from segments.doors.live_audience.metrics import DeliveryMetrics
from segments.files.blobs import Blobs
from segments.ledger import accounts, callbacks, jobs
from segments.ledger.live_audience import deliveries
from segments.loader.loader import Loader
from segments.model.account import AccountKind
from segments.model.job import Job
from segments.settings import Settings
from segments.store.reader import read_meta, read_records
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    ids_of,
    metadata_of,
    text_of,
)

AGENCY_ID = "agency"
SUB_ID = "sub"
WAIT_S = 100.0
HASHES = email_hashes(20)
CONTENT = text_of(HASHES)


def error(code: int) -> dict[str, Any]:
    """Return the answer that is this error."""
    return {"error": {"code": str(code), "description": DESCRIPTIONS[code]}}


class Clock:
    """Time that passes when it is told to, from the real time on."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class DropDoor:
    """What a test of the door needs of everything."""

    def __init__(
        self, settings: Settings, ledger: AsyncEngine, redis: Redis, blobs: Blobs, clock: Clock
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.redis = redis
        self.blobs = blobs
        self.clock = clock
        self.folders = DropFolder(settings.drop_folder, clock)
        self.folder = self.folders.of(PARTNER_ID)
        self.registry = CollectorRegistry()
        self.metrics = DeliveryMetrics(self.registry)
        self.drop = self.restarted()
        self.loader = Loader(settings.loader_options, ledger, redis, blobs)

    def restarted(self) -> Drop:
        """Make a drop that knows nothing but what disk and ledger hold."""
        return Drop(
            self.settings.drop_options,
            self.ledger,
            self.blobs,
            self.folders,
            self.clock,
            metrics=self.metrics,
        )

    async def open_accounts(self) -> None:
        async with self.ledger.begin() as conn:
            await accounts.add_account(conn, AccountKind.ADVERTISER, PARTNER_ID, "Partner", now_s=0)
            agency = await accounts.add_account(
                conn, AccountKind.AGENCY, AGENCY_ID, "Agency", now_s=0
            )
            await accounts.add_account(
                conn, AccountKind.ADVERTISER, SUB_ID, "Sub", parent=agency, now_s=0
            )

    def put_metadata(
        self,
        content: bytes,
        *,
        name: str = "request",
        records: int | None = None,
        folder: Folder | None = None,
        **fields: Any,
    ) -> str:
        """Write a metadata file that describes this content; return the data file's name."""
        count = len(content.splitlines()) if records is None else records
        metadata = metadata_of(content, records=count, **fields)
        self.put(f"{name}.json", as_json(metadata), folder)
        file_name: str = metadata["file"]["name"]
        return file_name

    def put(self, name: str, content: bytes, folder: Folder | None = None) -> None:
        ((folder or self.folder).path / name).write_bytes(content)

    def status(self, name: str = "request", folder: Folder | None = None) -> Any:
        """Return the document's members of the status file, `None` if there is none."""
        said = self.whole_status(name, folder)
        if said is not None:
            said.pop("details", None)
        return said

    def details(self, name: str = "request") -> Any:
        """Return what the status file says beside the document's members."""
        return self.whole_status(name).get("details")

    def whole_status(self, name: str = "request", folder: Folder | None = None) -> Any:
        """Return what the status file says, `None` if there is none."""
        path = (folder or self.folder).path / f"{name}.status"
        return json.loads(path.read_bytes()) if path.exists() else None

    async def load(self) -> None:
        """Carry all jobs, as the loader would."""
        await self.loader.catch_up()
        while (job := await self.loader.claim()) is not None:
            await self.loader.run_one(job, asyncio.Event())

    async def deliver(self, content: bytes, **fields: Any) -> Any:
        """Deliver a file from beginning to end, and return the last answer."""
        self.put(self.put_metadata(content, **fields), content)
        await self.drop.turn()
        await self.load()
        await self.drop.turn()
        return self.status()

    async def jobs(self) -> list[Job]:
        async with self.ledger.connect() as conn:
            return list(await jobs.jobs(conn, 100))

    async def waiting(self) -> list[str]:
        """Return the transaction ids of the deliveries that wait for a data file."""
        async with self.ledger.connect() as conn:
            return [d.transaction_id for d, _ in await deliveries.waiting(conn)]

    async def callbacks(self) -> list[callbacks.Callback]:
        async with self.ledger.connect() as conn:
            return await callbacks.due(conn, 1e12, 100)

    async def members(self, hashes: list[str]) -> int:
        """Count the persons who are in some audience."""
        found = await read_records(self.redis, await read_meta(self.redis), ids_of(hashes))
        return sum(bool(record.memberships) for record in found)
