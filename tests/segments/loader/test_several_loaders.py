"""Several loaders side by side on PostgreSQL, and what a ledger that goes away does to one."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import LedgerAway, open_ledger, reading
from segments.loader.loader import Loader
from segments.model.account import AccountKind
from segments.model.job import UNFINISHED, Job, JobState
from segments.settings import Settings
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.postgres import Postgres
from tests.segments.ingest.deliveries import as_json, email_hashes, ids_of, metadata_of, text_of
from tests.segments.loader.test_loader import until

WITHIN_S = 60
PARTNERS = ("a", "b", "c", "d")

_WATCH = """
create table seen (n bigserial, job_id bigint, state text, owner text);
create function see() returns trigger language plpgsql as $$ begin
  if (new.state, new.lease_owner) is distinct from (old.state, old.lease_owner) then
    insert into seen (job_id, state, owner)
      values (new.id, new.state, coalesce(new.lease_owner, old.lease_owner));
  end if;
  return new;
end $$;
create trigger see after update on jobs for each row execute function see();
"""
_CONNECTED = "select distinct application_name from pg_stat_activity where datname = '{}'"


class Delivered:
    """A ledger and a store in which files of several partners are delivered."""

    def __init__(self, ledger: AsyncEngine, redis: Redis, settings: Settings) -> None:
        self.ledger = ledger
        self.redis = redis
        self.settings = settings
        self.blobs = Blobs.in_directory(settings.data_dir / "blobs")

    async def deliver(self, partner_id: str, content: bytes, segments: int = 1) -> Job:
        added = [(str(number), "add") for number in range(1, segments + 1)]
        metadata = metadata_of(content, records=len(content.splitlines()), segments=added)
        return await accept(
            self.ledger,
            self.blobs,
            read_metadata(as_json({**metadata, "partner_id": partner_id})),
            [content],
            door="test",
            file_name="a.txt",
            now_s=time.time(),
        )

    async def job(self, job: Job) -> Job:
        async with reading(self.ledger) as conn:
            found = await jobs.job(conn, job.id)
        assert found is not None
        return found

    async def ended(self, job: Job) -> Job:
        async with asyncio.timeout(WITHIN_S):
            while (found := await self.job(job)).state in UNFINISHED:  # noqa: ASYNC110 - another process ends it
                await asyncio.sleep(0.02)
        return found

    async def members(self, hashes: list[str]) -> int:
        found = await read_records(self.redis, await read_meta(self.redis), ids_of(hashes))
        return sum(bool(record.memberships) for record in found)


class Loaders:
    """Loader processes, each known to PostgreSQL by a name of its own."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self._log = log
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str) -> None:
        assert self._settings.ledger_url is not None
        assert self._settings.redis_url is not None
        environment = {
            **os.environ,
            "SEGMENTS_DATA_DIR": str(self._settings.data_dir),
            "SEGMENTS_LEDGER_URL": f"{self._settings.ledger_url}&application_name={name}",
            "SEGMENTS_REDIS_URL": self._settings.redis_url,
            # With four the first would take a job of each partner, and leave none to the others.
            "SEGMENTS_LOADER_JOBS": "2",
        }
        with self._log.open("ab") as log:
            argv = [sys.executable, "-m", "segments", "loader"]
            self._processes.append(subprocess.Popen(argv, env=environment, stderr=log))

    def kill(self, pid: int) -> None:
        (process,) = (process for process in self._processes if process.pid == pid)
        process.kill()
        process.wait(WITHIN_S)

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        statuses = [process.wait(WITHIN_S) for process in self._processes]
        assert set(statuses) <= {0, -signal.SIGKILL}, self._log.read_text()


@pytest.fixture
async def delivered(valkey: Engine, postgres_settings: Settings) -> AsyncIterator[Delivered]:
    settings = postgres_settings.model_copy(update={"redis_url": valkey.url})
    async with open_ledger(settings.ledger_dsn) as ledger, connect(valkey.url) as redis:
        async with ledger.begin() as conn:
            for name in PARTNERS:
                await accounts.add_account(conn, AccountKind.ADVERTISER, name, name, now_s=0)
        yield Delivered(ledger, redis, settings)


@pytest.fixture
def loaders(delivered: Delivered, tmp_path: Path) -> Iterator[Loaders]:
    started = Loaders(delivered.settings, tmp_path / "log")
    yield started
    started.stop()


async def ready(postgres: Postgres, database: str, names: list[str]) -> None:
    """Wait until loaders of these names are connected."""

    async def are_connected() -> bool:
        rows = await asyncio.to_thread(postgres.rows, database, _CONNECTED.format(database))
        return {(name,) for name in names} <= set(rows)

    async with asyncio.timeout(WITHIN_S):
        while not await are_connected():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.05)


async def test_loaders_side_by_side_carry_each_job_once_and_a_partners_in_order(
    delivered: Delivered, loaders: Loaders, postgres: Postgres, database: str
) -> None:
    postgres.execute(database, _WATCH)
    names = ["one", "two", "three"]
    for name in names:
        loaders.start(name)
    await ready(postgres, database, names)

    hashes = email_hashes(2400)
    submitted = [
        await delivered.deliver(PARTNERS[n % 4], text_of(hashes[n * 100 : (n + 1) * 100]))
        for n in range(24)
    ]
    ended = [await delivered.ended(job) for job in submitted]

    assert {job.state for job in ended} == {JobState.DONE}
    assert {job.checkpoint.deaths for job in ended} == {0}
    assert await delivered.members(hashes) == 2400
    seen = postgres.rows(database, "select job_id, state, owner from seen order by n")
    for job in submitted:
        (begun, begun_by), (done, done_by) = [row[1:] for row in seen if row[0] == job.id]
        assert (begun, done, done_by) == ("running", "done", begun_by)
    assert len({owner for _, _, owner in seen}) > 1
    for n in range(4):
        of_partner = [job.id for job in submitted[n::4]]
        steps = [job_id for job_id, _, _ in seen if job_id in of_partner]
        assert steps == [job_id for job_id in of_partner for _ in ("running", "done")]


async def test_job_of_a_loader_that_was_killed_is_taken_over_by_another(
    delivered: Delivered, loaders: Loaders, postgres: Postgres, database: str
) -> None:
    postgres.execute(database, _WATCH)
    for name in ("one", "two"):
        loaders.start(name)
    await ready(postgres, database, ["one", "two"])
    hashes = email_hashes(40_000)
    # Of so many segments that it takes a while.
    submitted = await delivered.deliver("a", text_of(hashes), segments=20)

    async def is_begun() -> bool:
        return (await delivered.job(submitted)).report.read_bytes > 0

    await until(is_begun)
    owner = "select lease_owner from jobs where state = 'running'"
    ((first,),) = postgres.rows(database, owner)
    loaders.kill(int(first.split(":")[-2]))
    ended = await delivered.ended(submitted)

    assert ended.state is JobState.DONE
    assert await delivered.members(hashes) == 40_000
    seen = postgres.rows(database, "select state, owner from seen order by n")
    second = seen[-1][1]
    assert seen == [("running", first), ("running", second), ("done", second)]
    assert second != first


async def test_ledger_that_goes_away_under_a_job_leaves_it_to_be_gone_on_with(
    delivered: Delivered, postgres: Postgres
) -> None:
    """
    The file is not to blame, and no loader has died of it.
    """
    loader = Loader(
        delivered.settings.loader_options, delivered.ledger, delivered.redis, delivered.blobs
    )
    await loader.catch_up()
    hashes = email_hashes(1000)
    submitted = await delivered.deliver("a", text_of(hashes))
    job = await loader.claim()
    assert job is not None

    def kill_ledger(state: Job) -> None:
        if state.report.segments:
            postgres.kill()

    with pytest.raises(LedgerAway):
        await loader.run_one(job, asyncio.Event(), kill_ledger)
    with pytest.raises(LedgerAway):
        await loader.claim()
    postgres.start()
    again = await loader.claim()

    assert again is not None
    assert (again.id, again.checkpoint.deaths) == (submitted.id, 0)
    assert (await loader.run_one(again, asyncio.Event())).state is JobState.DONE
    assert await delivered.members(hashes) == 1000


async def test_loader_waits_for_a_ledger_that_is_away(
    delivered: Delivered, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loader = Loader(
        delivered.settings.loader_options, delivered.ledger, delivered.redis, delivered.blobs
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(loader.run(stopping))

    async def is_told() -> bool:
        return "waiting for the ledger" in caplog.text

    postgres.kill()
    await until(is_told)
    postgres.start()
    ended = await delivered.ended(await delivered.deliver("a", text_of(email_hashes(10))))
    stopping.set()
    async with asyncio.timeout(WITHIN_S):
        await running

    assert ended.state is JobState.DONE
    assert "the ledger is back" in caplog.text
