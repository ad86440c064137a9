"""
The real service for the machine: one store process, one worker, a ledger anew for each run.

All in one event loop that runs while a step does. Each run has the store
emptied and a copy of a ledger in which the accounts stand, so that a step takes
milliseconds; its files lie in memory where the system has a place for that.
"""

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from rtb.lookup.link import LookupFault
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ingest.parse import Parser
from segments.ingest.realtime import Chunk, Realtime
from segments.ingest.tools import Tools
from segments.ledger import accounts, audiences, jobs, recipients
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.privacy import opt_outs
from segments.ledger.revision import revision
from segments.ledger.tables import catalog_revision
from segments.loader.loader import Loader
from segments.model.account import Account, AccountKind
from segments.model.audience import Audience, AudienceState
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.job import JobState
from segments.model.order import SegmentAction as FileAction
from segments.model.record import OptOutAction
from segments.projection.catalog import catch_up
from segments.projection.in_force import Receipt, put_into_force, withdraw_from_bids
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store.catalog_lease import DEFAULT_LEASE_MS
from segments.store.meta import prepare
from segments.store.reader import LedgerBehind
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from segments.upkeep.rebuild import rebuild
from segments.upkeep.reconcile import reconcile
from segments.upkeep.scrub.scrubber import Scrubber
from segments.upkeep.sweep import sweep_store
from tests.cut_off import cut_off
from tests.edge.client import Client, connected
from tests.edge.small_store import Service, bid_request, eventually, started
from tests.engines import Engine
from tests.kept_files import kept_files
from tests.refusals import REFUSALS
from tests.segments.ingest.deliveries import as_json, metadata_of, text_of
from tests.stateful.model import EVERYONE, OWNERS, PARTNER_OF

T = TypeVar("T")

PERSONS = ("ada", "bob", "cyd", "dan")
HASH_OF = {name: sha256(f"{name}@example.com".encode()).hexdigest() for name in PERSONS}
RECIPIENT = "dsp-a"

_REVISIONS_A_RUN = 10_000
_RUNS_A_LOG = 10


def _folder() -> Path:
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="seg-", dir=memory if memory.is_dir() else None))


class RealService:
    """Everything that is kept from run to run, and what the run at work has."""

    ledger: AsyncEngine
    settings: Settings
    blobs: Blobs

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.folder = _folder()
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._kept = AsyncExitStack()
        self._of_run = AsyncExitStack()
        self._runs = 0
        self._new_audiences = 0
        self._accounts: dict[str, Account] = {}
        self.do(self._begin())

    def do(self, step: Coroutine[Any, Any, T]) -> T:
        """Carry out a step, and all that runs beside it meanwhile."""
        return self._runner.run(step)

    def close(self) -> None:
        self.do(self._of_run.aclose())
        self.do(self._kept.aclose())
        self._runner.close()
        shutil.rmtree(self.folder)

    async def _begin(self) -> None:
        template = Settings(data_dir=self.folder / "template", expected_ids=2_000)
        async with open_ledger(template.ledger_dsn) as ledger, ledger.begin() as conn:

            async def add(name: str, kind: AccountKind, parent: str | None = None) -> None:
                self._accounts[name] = await accounts.add_account(
                    conn,
                    kind,
                    name,
                    name,
                    parent=self._accounts[parent] if parent else None,
                    now_s=0,
                )

            await add("group", AccountKind.MEDIA_GROUP)
            await add("P1", AccountKind.PUBLISHER, "group")
            await add("P2", AccountKind.PUBLISHER)
            await add("A", AccountKind.ADVERTISER, "group")
            await add("B", AccountKind.ADVERTISER)
            await add("Y", AccountKind.AGENCY)
            await add("S", AccountKind.ADVERTISER, "Y")
            await accounts.relate(conn, self._accounts["P1"], self._accounts["B"])
            await accounts.relate(conn, self._accounts["P2"], self._accounts["Y"])
            await recipients.add_recipient(conn, RECIPIENT, now_s=0)
        self.redis = await self._kept.enter_async_context(connect(self.engine.url))
        self.service: Service = await self._kept.enter_async_context(
            # Between two bids a slow machine may take its time.
            started(
                self.engine.url,
                idle_timeout_s=86_400,
                catalog_lease_ms=DEFAULT_LEASE_MS,
                allow_unnamed_recipient=True,
            )
        )
        self.client: Client = await self._kept.enter_async_context(connected(self.service.port))

    async def new_run(self) -> None:
        """Empty the store, and take a fresh ledger and an empty place for files."""
        await self._of_run.aclose()
        self._runs += 1
        data_dir = self.folder / f"run-{self._runs}"
        data_dir.mkdir()
        shutil.copy(self.folder / "template" / "ledger.db", data_dir / "ledger.db")
        self._of_run = AsyncExitStack()
        self._of_run.callback(shutil.rmtree, data_dir)
        self._opened = await self._of_run.enter_async_context(AsyncExitStack())
        self.settings = Settings(data_dir=data_dir, expected_ids=2_000)
        self.blobs = Blobs.open(self.settings.blobs_at)
        await self._open_ledger()
        # No two catalogs of all runs have one number: the worker tells them apart by it.
        async with self.ledger.begin() as conn:
            await conn.execute(
                update(catalog_revision).values(revision=self._runs * _REVISIONS_A_RUN)
            )
        await self.redis.flushall()
        if self._runs % _RUNS_A_LOG == 0:
            await self._forget_log()
        await self.settle()

    async def _open_ledger(self) -> None:
        self.ledger = await self._opened.enter_async_context(open_ledger(self.settings.ledger_dsn))
        self.at_once = Realtime(
            self.settings.expected_ids, self.ledger, self.redis, self.blobs, time.time
        )

    async def dump(self) -> None:
        """Back up the ledger and its files."""
        backup = self.settings.data_dir / "backup"
        shutil.rmtree(backup, ignore_errors=True)
        backup.mkdir()
        async with self.ledger.connect() as conn:
            raw = await conn.get_raw_connection()
            file = str(backup / "ledger.db")
            await raw.driver_connection.execute("vacuum into ?", (file,))  # type: ignore[union-attr]
        blobs = self.settings.data_dir / "blobs"
        if blobs.exists():
            shutil.copytree(blobs, backup / "blobs")

    async def restore(self, new_audiences: int) -> bool:
        """
        Put the backup in the ledger's place, and tell whether it is behind the store.

        Args:
            new_audiences: So many are made by it before it meets the store, as by doors while
                the store is away; nobody is in them.
        """
        await self._opened.aclose()
        for left in self.settings.data_dir.glob("ledger.db*"):
            left.unlink()
        backup, blobs = self.settings.data_dir / "backup", self.settings.data_dir / "blobs"
        shutil.copy(backup / "ledger.db", self.settings.data_dir)
        shutil.rmtree(blobs, ignore_errors=True)
        if (backup / "blobs").exists():
            shutil.copytree(backup / "blobs", blobs)
        await self._open_ledger()
        async with self.ledger.begin() as conn:
            for _ in range(new_audiences):
                self._new_audiences += 1
                owner, segment_id = self._accounts["A"], f"new-{self._new_audiences}"
                await audiences.find_or_create_audience(
                    conn, owner, owner, segment_id, "New", now_s=time.time()
                )
        try:
            await catch_up(self.ledger, self.redis, self.settings.expected_ids)
        except LedgerBehind:
            fault = LookupFault.LEDGER_BEHIND
            await eventually(lambda: self.service.worker.bids.lookup.fault is fault)
            return True
        return False

    async def reconcile(self) -> None:
        """Do as `rtb-segments reconcile` does, and wait until the worker believes the store."""
        assert await reconcile(self._tools(), settle_s=0) is not None
        await eventually(lambda: self.service.is_up)

    async def _forget_log(self) -> None:
        """Begin a new log: after hundreds of runs, each start of the store would replay all."""
        await self.redis.bgrewriteaof()
        for _ in range(3_000):
            if not (await self.redis.info("persistence"))["aof_rewrite_in_progress"]:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the store does not finish its new log")

    async def settle(self) -> None:
        """Do what a loader does each second, and wait until the worker has heard of it."""
        await catch_up(self.ledger, self.redis, self.settings.expected_ids)
        async with reading(self.ledger) as conn:
            version = await revision(conn)
        await eventually(
            lambda: self.service.is_up and self.service.worker.bids.catalog.version == version
        )

    async def deliver(
        self, owner: str, persons: Sequence[str], actions: Sequence[tuple[str, bool]]
    ) -> None:
        content = text_of(HASH_OF[person] for person in persons)
        said = metadata_of(
            content,
            records=len(persons),
            segments=[(segment, "add" if is_add else "remove") for segment, is_add in actions],
            partner_id=PARTNER_OF[owner],
            **({"sub_id": owner} if PARTNER_OF[owner] != owner else {}),
        )
        await accept(
            self.ledger,
            self.blobs,
            read_metadata(as_json(said)),
            [content],
            door="test",
            file_name="a.txt",
            now_s=time.time(),
        )

    async def load(self) -> None:
        loader = Loader(self.settings.loader_options, self.ledger, self.redis, self.blobs)
        await loader.catch_up()
        while (job := await loader.claim()) is not None:
            job = await loader.run_one(job, asyncio.Event())
            assert job.state is JobState.DONE, job.error

    async def chunk(
        self, owner: str, persons: Sequence[str], segment: str, *, is_add: bool
    ) -> None:
        content = text_of(HASH_OF[person] for person in persons)
        ids = Parser("sha2").feed(content)
        action = FileAction.ADD if is_add else FileAction.REMOVE
        applied = await self.at_once.apply(
            self._accounts[owner],
            Chunk(await self._audience(owner, segment), action, "sha2", content, ids),
        )
        assert applied.is_in_store

    async def say_no(self, persons: Sequence[str], account: str, *, erases: bool) -> bool:
        """Record it, and return whether the store has it too."""
        return not (await self._receipt(persons, account, erases=erases)).waits_because

    async def _receipt(self, persons: Sequence[str], account: str, *, erases: bool) -> Receipt:
        return await record_opt_out(
            self.ledger,
            self.redis,
            OptOutAction.ERASURE if erases else OptOutAction.RESTRICT,
            [(IdentifierKind.EMAIL, id_of_email_hash(HASH_OF[person])) for person in persons],
            None if account == EVERYONE else self._accounts[account].id,
        )

    async def refuse_writes_and_say_no(
        self, code: str, persons: Sequence[str], account: str, *, erases: bool
    ) -> tuple[bool, list[set[tuple[str, str]]]]:
        """
        Say it to a store that reads and does not write, and again when it does.

        Returns:
            Whether it was in force all the while, as a request that repeats one of the last
            minutes is; and of bids of each person alone, what was shown meanwhile.
        """
        with REFUSALS[code](self.engine):
            waits = await self._receipt(persons, account, erases=erases)
            shown = [(await self.bid((person,), None, is_named=False))[1] for person in PERSONS]
            still_waits = await self._receipt(persons, account, erases=erases)
        in_force = await self._receipt(persons, account, erases=erases)
        assert bool(waits.waits_because) == bool(still_waits.waits_because)
        assert not in_force.waits_because
        assert waits.transaction_ids == still_waits.transaction_ids == in_force.transaction_ids
        return not waits.waits_because, shown

    async def say_no_without_store(
        self, persons: Sequence[str], account: str, *, erases: bool
    ) -> None:
        """Say it to a process that has lost the store, while a loader has it."""
        async with self.ledger.begin() as conn:
            requests = await opt_outs.record(
                conn,
                OptOutAction.ERASURE if erases else OptOutAction.RESTRICT,
                [[(IdentifierKind.EMAIL, id_of_email_hash(HASH_OF[each])) for each in persons]],
                None if account == EVERYONE else self._accounts[account].id,
                now_s=time.time(),
            )
        asking = asyncio.create_task(
            put_into_force(self.ledger, cut_off(self.redis), requests, wait_s=60)
        )
        await catch_up(self.ledger, self.redis, self.settings.expected_ids)
        assert not (await asking).waits_because

    async def withdraw(self) -> None:
        """Wait as a door does before it answers a deletion, while bids come without a pause."""
        waiting = asyncio.create_task(withdraw_from_bids(self.ledger, self.redis, wait_s=60))
        while not waiting.done():
            for person in PERSONS:
                await self.bid((person,), None, is_named=False)
        assert await waiting == ""

    async def move_window(self, owner: str, segment: str, until_s: int | None) -> None:
        audience = await self._audience(owner, segment)
        async with self.ledger.begin() as conn:
            await audiences.set_window(conn, audience, None, until_s, now_s=time.time())

    async def set_state(self, owner: str, segment: str, state: AudienceState) -> None:
        audience = await self._audience(owner, segment)
        async with self.ledger.begin() as conn:
            await audiences.set_state(conn, audience, state, now_s=time.time())

    async def grant(self, partner: str, *, is_granted: bool) -> None:
        change = recipients.grant if is_granted else recipients.revoke
        async with self.ledger.begin() as conn:
            recipient = await recipients.recipient(conn, RECIPIENT)
            await change(conn, recipient, self._accounts[partner])

    async def sweep(self) -> None:
        writer = Writer(self.redis, await prepare(self.redis, self.settings.expected_ids))
        await sweep_store(self.ledger, self.redis, writer, time.time())

    async def scrub(self) -> dict[str, bytes]:
        """Scrub, and return of each owner all that its files hold."""
        spool = self.settings.spool_dir
        done = await Scrubber(self.ledger, self.blobs, spool, time.time).scrub(time.time())
        assert not done.unreadable
        assert not done.at_work
        kept = dict.fromkeys(OWNERS, b"")
        names = {account.id: name for name, account in self._accounts.items()}
        async with reading(self.ledger) as conn:
            for job in await jobs.jobs(conn, 10_000):
                file = self.settings.data_dir / "blobs" / job.blob
                kept[names[job.owner_id]] += file.read_bytes()
        on_disk = kept_files(self.settings.data_dir / "blobs")
        assert sum(path.stat().st_size for path in on_disk) == sum(map(len, kept.values()))
        return kept

    async def rebuild(self) -> None:
        await self.redis.flushall()
        await self.rebuild_in_place()

    async def rebuild_in_place(self) -> None:
        await rebuild(self._tools(), self.settings.expected_ids, settle_s=0)

    def _tools(self) -> Tools:
        return Tools(self.ledger, self.redis, self.blobs, self.settings.spool_dir, time.time)

    async def kill_store(self) -> None:
        self.engine.kill()
        await eventually(lambda: not self.service.is_up)

    async def start_store(self) -> None:
        """Start it, and wait until the worker has met it, whatever it thinks of it."""
        self.engine.start()
        met = (None, LookupFault.UNUSABLE)
        await eventually(lambda: self.service.worker.bids.lookup.fault in met)

    async def bid(
        self, persons: Sequence[str], publisher: str | None, *, is_named: bool
    ) -> tuple[str, set[tuple[str, str]]]:
        """Return how a bid of a person with these ids ended, and what was shown of them."""
        uids = [{"id": HASH_OF[person]} for person in persons]
        user = {"eids": [{"source": "liveintent.com", "uids": uids}]}
        site = {"publisher": {"id": publisher}} if publisher else {}
        path = f"/openrtb2/enrich/{RECIPIENT}" if is_named else "/openrtb2/enrich"
        answer = await self.client.post(bid_request(None, user=user, site=site), path)
        data = json.loads(answer.body)["user"].get("data", [])
        return answer.outcome, {(d["id"], s["id"]) for d in data for s in d["segment"]}

    async def until_up(self) -> None:
        """Wait until the worker enriches: it holds no lease after the loop stood still."""
        await eventually(lambda: self.service.is_up)

    async def _audience(self, owner: str, segment: str) -> Audience:
        async with reading(self.ledger) as conn:
            found = await audiences.find_audience(conn, self._accounts[owner], segment)
        assert found is not None
        return found
