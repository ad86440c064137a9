"""Partners, their files and a store, and a search of the disk for whoever was erased."""

import gzip
import io
import time
import zipfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs, delivery_name
from segments.ingest.run import run
from segments.ingest.tools import Tools
from segments.ledger import accounts, job_leases, jobs
from segments.model.account import Account, AccountKind
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.job import Job
from segments.model.record import OptOutAction
from segments.projection.catalog import catch_up
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import keys
from segments.store.servers.connection import connect
from segments.upkeep.rebuild import rebuild
from segments.upkeep.scrub.scrubber import Scrub, Scrubber
from tests.engines import Engine
from tests.kept_files import kept_files
from tests.segments.ingest.deliveries import (
    as_json,
    email_hashes,
    ids_of,
    metadata_of,
)

PEOPLE = email_hashes(30)
ERASED, OTHERS = PEOPLE[:5], PEOPLE[5:]


class KeptFiles:
    """Partners, their files, a store; and what a search of the disk finds."""

    def __init__(self, settings: Settings, ledger: AsyncEngine, redis: Redis, blobs: Blobs) -> None:
        self.settings = settings
        self.ledger = ledger
        self.redis = redis
        self.blobs = blobs
        self.folder = settings.data_dir / "blobs"
        self.ahead_s = 0.0
        self.tools = Tools(ledger, redis, blobs, settings.spool_dir, self.now_s, 60)
        self.shop: Account
        self.other: Account
        self.publisher: Account

    def now_s(self) -> float:
        return time.time() + self.ahead_s

    async def begin(self) -> None:
        async with self.ledger.begin() as conn:
            self.shop = await accounts.add_account(
                conn, AccountKind.ADVERTISER, "shop", "Shop", now_s=0
            )
            self.other = await accounts.add_account(
                conn, AccountKind.ADVERTISER, "other", "Other", now_s=0
            )
            self.publisher = await accounts.add_account(
                conn, AccountKind.PUBLISHER, "pub", "Publisher", now_s=0
            )
        await catch_up(self.ledger, self.redis, self.settings.expected_ids)

    async def deliver(
        self,
        content: bytes,
        *,
        records: int = len(PEOPLE),
        partner_id: str = "shop",
        segment: str = "1",
        digest_of: bytes | None = None,
        action: str = "add",
    ) -> Job:
        metadata = metadata_of(
            content if digest_of is None else digest_of,
            records=records,
            segments=[(segment, action)],
            partner_id=partner_id,
        )
        return await accept(
            self.ledger,
            self.blobs,
            read_metadata(as_json(metadata)),
            [content],
            door="test",
            file_name="a.txt",
            now_s=self.now_s(),
        )

    async def load(self, max_removed_share: float = 1.0) -> list[Job]:
        """Carry every job that can be had."""
        done: list[Job] = []
        tools = Tools(**{**vars(self.tools), "max_removed_share": max_removed_share})

        async def keep(job: Job) -> None:
            async with self.ledger.begin() as conn:
                await job_leases.save(conn, job, self.now_s())

        while True:
            async with self.ledger.begin() as conn:
                job = await job_leases.claim(conn, self.now_s())
            if job is None:
                return done
            done.append(await run(job, tools, keep))

    async def loaded(self, content: bytes, **how: object) -> Job:
        """Deliver and load a file; it is kept as it came, as versions before `ids_only` kept it."""
        await self.deliver(content, **how)  # type: ignore[arg-type]
        [job] = await self.load()
        return await self.with_original(job, content)

    async def with_original(self, job: Job, content: bytes) -> Job:
        if not job.report.is_ids:
            return job
        before = replace(
            job, blob=delivery_name(job.partner_id), report=replace(job.report, is_ids=False)
        )
        await self.blobs.put(before.blob, [content])
        async with self.ledger.begin() as conn:
            assert await jobs.replace_original(conn, job, before)
        await self.blobs.delete(job.blob)
        return before

    async def say_no(
        self,
        hashes: Iterable[str] = ERASED,
        account: Account | None = None,
        action: OptOutAction = OptOutAction.ERASURE,
    ) -> None:
        ids = [(IdentifierKind.EMAIL, id_) for id_ in ids_of(hashes)]
        await record_opt_out(
            self.ledger, self.redis, action, ids, None if account is None else account.id
        )

    @property
    def scrubber(self) -> Scrubber:
        return Scrubber(self.ledger, self.blobs, self.settings.spool_dir, self.now_s)

    async def scrub(self) -> Scrub:
        return await self.scrubber.scrub(self.now_s())

    async def job(self, job: Job) -> Job:
        async with self.ledger.connect() as conn:
            found = await jobs.job(conn, job.id)
        assert found is not None
        return found

    async def dump(self) -> dict[bytes, dict[bytes, bytes]]:
        names = [name async for name in self.redis.scan_iter(match=keys.BUCKET_PREFIX + b"*")]
        return {name: await self.redis.hgetall(name) for name in names}  # type: ignore[misc]

    async def rebuilt(self) -> dict[bytes, dict[bytes, bytes]]:
        await self.redis.flushall()
        await rebuild(self.tools, self.settings.expected_ids, settle_s=0)
        return await self.dump()

    def contents(self) -> list[bytes]:
        """Return every file on the disk, listed by the blob store or not, unpacked."""
        return [plain(path.read_bytes()) for path in kept_files(self.folder)]

    def found(self, hashes: Sequence[str]) -> set[str]:
        """Return which hashes stand anywhere in any file, as text or as ids."""
        contents = self.contents()
        texts = [content.lower() for content in contents]
        return {
            h
            for h in hashes
            if any(h.encode() in text for text in texts)
            or any(bytes(id_of_email_hash(h)) in content for content in contents)
        }


def plain(raw: bytes) -> bytes:
    if raw.startswith(b"\x1f\x8b"):
        return gzip.decompress(raw)
    if raw.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return b"".join(archive.read(name) for name in archive.namelist())
    return raw


async def lines_of(world: KeptFiles, job: Job) -> list[str]:
    """Return what is kept of a job's file."""
    raw = (world.folder / (await world.job(job)).blob).read_bytes()
    return plain(raw).decode().split()


@asynccontextmanager
async def begun(
    settings: Settings, ledger: AsyncEngine, engine: Engine
) -> AsyncIterator[KeptFiles]:
    """A world on this ledger and this store, with its accounts and nothing else in it."""
    async with connect(engine.url) as redis:
        world = KeptFiles(settings, ledger, redis, Blobs.in_directory(settings.data_dir / "blobs"))
        await world.begin()
        yield world
