"""
A partner's enormous, or costly, file keeps nobody else's waiting; by one loader, which may die.

The loader is a process as its operator starts it.
"""

import asyncio
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.privacy import opt_outs
from segments.model.account import AccountKind
from segments.model.identity import IdentifierKind
from segments.model.job import UNFINISHED, Job, JobState
from segments.model.record import OptOutAction
from segments.settings import Settings
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from tests.engines import Engine, start_lasting
from tests.rest import serving
from tests.segments.doors.external_audience.external_world import sandbox_of
from tests.segments.ingest.deliveries import as_json, email_hashes, ids_of, text_of

_log = logging.getLogger(__name__)

WITHIN_S = 120
PROMISED_S = 5.0
GREEDY, MODEST = "greedy", "modest"
HASHES_A_BLOCK = 1 << 20
LEAST_LINES, MOST_LINES = 20, 400
"""Of the modest partner beside tables of the greedy one: more than a beginning, less than a day."""


class Neighbours:
    """Partners who deliver to one loader, a process of its own."""

    def __init__(self, settings: Settings, ledger: AsyncEngine, redis: Redis) -> None:
        self.settings = settings
        self.ledger = ledger
        self.redis = redis
        self.blobs = Blobs.open(settings.blobs_at)
        self._log = settings.data_dir / "log"
        self._loader: subprocess.Popen[bytes] | None = None
        self._hashes = iter(email_hashes(1, start=n)[0] for n in count(10**6))

    def start(self) -> None:
        environment = {
            **os.environ,
            "SEGMENTS_DATA_DIR": str(self.settings.data_dir),
            "SEGMENTS_LEDGER_URL": f"sqlite+aiosqlite:///{self.settings.data_dir}/ledger.db",
            "SEGMENTS_REDIS_URL": str(self.settings.redis_url),
            "SEGMENTS_EXPECTED_IDS": str(self.settings.expected_ids),
            "SEGMENTS_RESERVE_BYTES": "0",
        }
        argv = [sys.executable, "-m", "segments", "loader"]
        with self._log.open("ab") as log:
            self._loader = start_lasting(argv, env=environment, stderr=log)

    @property
    def loader_peak_mb(self) -> float:
        assert self._loader is not None
        status = Path(f"/proc/{self._loader.pid}/status").read_text()
        [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        return int(peak) / 1024

    def end(self, signal_number: signal.Signals) -> None:
        assert self._loader is not None
        self._loader.send_signal(signal_number)
        status = self._loader.wait(WITHIN_S)
        assert status in (0, -signal.SIGKILL), self._log.read_text()
        assert "Traceback" not in self._log.read_text()

    async def deliver(
        self,
        partner_id: str,
        chunks: Callable[[], Iterable[bytes]],
        records: int,
        segments: Sequence[str] = ("1",),
        action: str = "add",
    ) -> Job:
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in chunks():
            digest.update(chunk)
        metadata = {
            "partner_id": partner_id,
            "file": {
                "name": f"{digest.hexdigest()}.txt",
                "hash": "md5",
                "digest": digest.hexdigest(),
                "date": "2026-11-30",
                "records": records,
            },
            "segments": [{"id": each, "name": each, "action": action} for each in segments],
        }
        return await accept(
            self.ledger,
            self.blobs,
            read_metadata(as_json(metadata)),
            chunks(),
            door="test",
            file_name="a.txt",
            now_s=time.time(),
        )

    async def one_line(self) -> float:
        """Deliver a file of one line; return after how many seconds it is in the store."""
        hash_ = next(self._hashes)
        began_s = time.monotonic()
        job = await self.deliver(MODEST, lambda: [text_of([hash_])], 1)
        ended = await self.until(job, lambda job: job.state not in UNFINISHED)
        took_s = time.monotonic() - began_s
        assert ended.state is JobState.DONE
        assert await self.members([hash_]) == 1
        return took_s

    async def deleted_line(self) -> float:
        """Deliver a line and take it out again; return after how many seconds it is out."""
        hash_ = next(self._hashes)
        added = await self.deliver(MODEST, lambda: [text_of([hash_])], 1)
        await self.until(added, lambda job: job.state not in UNFINISHED)
        assert await self.members([hash_]) == 1
        began_s = time.monotonic()
        removed = await self.deliver(MODEST, lambda: [text_of([hash_])], 1, action="remove")
        await self.until(removed, lambda job: job.state not in UNFINISHED)
        took_s = time.monotonic() - began_s
        assert await self.members([hash_]) == 0
        return took_s

    async def erasure(self) -> float:
        """Have a person erased who is a member; return after how many seconds nothing is held."""
        hash_ = next(self._hashes)
        added = await self.deliver(MODEST, lambda: [text_of([hash_])], 1)
        await self.until(added, lambda job: job.state not in UNFINISHED)
        assert await self.members([hash_]) == 1
        took_s = await self.opt_out(hash_, OptOutAction.ERASURE)
        assert await self.members([hash_]) == 0
        return took_s

    async def opt_out(
        self, hash_: str | None = None, action: OptOutAction = OptOutAction.RESTRICT
    ) -> float:
        """Say no without the store; return after how many seconds it has heard of it."""
        [id_] = ids_of([hash_ or next(self._hashes)])
        began_s = time.monotonic()
        async with self.ledger.begin() as conn:
            await opt_outs.record(
                conn,
                action,
                [[(IdentifierKind.EMAIL, id_)]],
                None,
                now_s=time.time(),
            )
        meta = await read_meta(self.redis)
        async with asyncio.timeout(WITHIN_S):
            # No event comes from another process.
            while not (await read_records(self.redis, meta, [id_]))[0].opt_outs:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return time.monotonic() - began_s

    async def job(self, job: Job) -> Job:
        async with reading(self.ledger) as conn:
            found = await jobs.job(conn, job.id)
        assert found is not None
        return found

    async def until(self, job: Job, is_so: Callable[[Job], bool]) -> Job:
        async with asyncio.timeout(WITHIN_S):
            while not is_so(found := await self.job(job)):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.02)
        return found

    async def members(self, hashes: Sequence[str]) -> int:
        found = await read_records(self.redis, await read_meta(self.redis), ids_of(hashes))
        return sum(bool(record.memberships) for record in found)


@pytest.fixture
async def neighbours(
    valkey: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Neighbours]:
    expected_ids = getattr(request, "param", 100_000)
    settings = Settings(data_dir=tmp_path, redis_url=valkey.url, expected_ids=expected_ids)
    async with open_ledger(settings.ledger_dsn) as ledger, connect(valkey.url) as redis:
        async with ledger.begin() as conn:
            for name in (GREEDY, MODEST):
                await accounts.add_account(conn, AccountKind.ADVERTISER, name, name, now_s=0)
        world = Neighbours(settings, ledger, redis)
        world.start()
        yield world
        world.end(signal.SIGTERM)


def costly_rows() -> list[bytes]:
    """Return 40 MB of a table that costs a second of work a megabyte: rows without a hash."""
    [hash_] = email_hashes(1)
    beginning = f"name,email_sha256\nx,{hash_}\n".encode()
    return [beginning, *[b"x,\n" * (1 << 18)] * 50]


async def test_costly_file_of_one_partner_keeps_nobody_else_waiting(
    neighbours: Neighbours, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    costly = await neighbours.deliver(GREEDY, costly_rows, 50 << 18)
    await neighbours.until(costly, lambda job: job.report.rows > 0)

    took_s = [await neighbours.one_line(), await neighbours.one_line()]
    took_s += [await neighbours.opt_out(), await neighbours.erasure()]
    took_s.append(await neighbours.deleted_line())
    neighbours.end(signal.SIGKILL)
    at_work = await neighbours.job(costly)
    neighbours.start()
    await neighbours.until(costly, lambda job: job.checkpoint.deaths > 0)
    took_s.append(await neighbours.one_line())

    _log.info("in the store after %s s", took_s)
    assert at_work.state is JobState.RUNNING
    assert (await neighbours.job(costly)).state is JobState.RUNNING
    assert max(took_s) < PROMISED_S, took_s


async def test_loader_that_is_killed_with_jobs_of_two_partners_loses_and_doubles_nothing(
    neighbours: Neighbours,
) -> None:
    many, few = email_hashes(17_000), email_hashes(2_000, start=17_000)
    segments = [str(number) for number in range(16)]  # some batches a file
    submitted = [
        await neighbours.deliver(GREEDY, lambda: [text_of(many)], len(many), segments),
        await neighbours.deliver(MODEST, lambda: [text_of(few)], len(few), segments),
    ]
    later = await neighbours.deliver(MODEST, lambda: [text_of(few[:10])], 10, ["9"])
    await neighbours.until(submitted[1], lambda job: job.state is not JobState.QUEUED)
    await neighbours.until(submitted[0], lambda job: job.report.written > 0)
    neighbours.end(signal.SIGKILL)
    left = [await neighbours.job(job) for job in submitted]
    neighbours.start()
    first, second = [
        await neighbours.until(job, lambda job: job.state not in UNFINISHED) for job in submitted
    ]
    last = await neighbours.until(later, lambda job: job.state not in UNFINISHED)

    assert JobState.RUNNING in {job.state for job in left}
    assert {first.state, second.state, last.state} == {JobState.DONE}
    assert await neighbours.members([*many, *few]) == 19_000
    assert (first.report.written, second.report.written) == (17_000, 2_000)
    assert first.report.added + first.report.unchanged == 16 * 17_000
    assert last.started_at_s >= second.finished_at_s  # type: ignore[operator]


def _blocks(blocks: int) -> Iterator[bytes]:
    for number in range(blocks):
        raw = np.random.default_rng(number).bytes(HASHES_A_BLOCK * 32).hex().encode()
        digits = np.frombuffer(raw, np.uint8).reshape(-1, 64)
        lines = np.full((HASHES_A_BLOCK, 65), ord("\n"), np.uint8)
        lines[:, :64] = digits
        yield lines.tobytes()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("neighbours", [100_000_000], indirect=True)
async def test_file_of_5_gib_of_one_partner_keeps_nobody_else_waiting(
    neighbours: Neighbours, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    blocks = (5 << 30) // (HASHES_A_BLOCK * 65) + 1
    records = blocks * HASHES_A_BLOCK
    large = await neighbours.deliver(GREEDY, lambda: _blocks(blocks), records)

    took_s = []
    while (now := await neighbours.job(large)).report.written < 4_000_000:
        phase = "writes" if now.report.written else "reads" if now.report.rows else "begins"
        took_s.append((phase, await neighbours.one_line(), await neighbours.opt_out()))
        assert (await neighbours.job(large)).state in (JobState.QUEUED, JobState.RUNNING)
    for phase, line_s, no_s in took_s:
        _log.info("%s: a line after %.2f s, an opt-out after %.2f s", phase, line_s, no_s)
    _log.info("the loader's memory: %.0f MB at most", neighbours.loader_peak_mb)

    assert {phase for phase, _, _ in took_s} >= {"reads", "writes"}
    assert max(max(line, no) for _, line, no in took_s) < PROMISED_S
    assert neighbours.loader_peak_mb < 400


TABLES = 40
TABLE_BYTES = 10**10 // TABLES
"""Together as many bytes as a run may have (`SEGMENTS_EXTERNAL_MAX_BYTES`)."""


def _write_tables(folder: Path) -> None:
    """Write one table, and the others as links to it: one table's worth of disk."""
    first = folder / "0.csv"
    row_bytes = 250
    rows = (TABLE_BYTES - len("mail,list_id\n")) // row_bytes
    with first.open("wb") as file:
        file.write(b"mail,list_id\n")
        for start in range(0, rows, HASHES_A_BLOCK):
            many = min(HASHES_A_BLOCK, rows - start)
            raw = np.random.default_rng(start).bytes(many * 32).hex().encode()
            lines = np.full((many, row_bytes), ord("x"), np.uint8)
            lines[:, :64] = np.frombuffer(raw, np.uint8).reshape(-1, 64)
            lines[:, 64], lines[:, -1] = ord(","), ord("\n")
            file.write(lines.tobytes())
    long_ago_s = time.time() - 60
    os.utime(first, (long_ago_s, long_ago_s))
    for number in range(1, TABLES):
        (folder / f"{number}.csv").hardlink_to(first)


@pytest.mark.long
@pytest.mark.timeout(2400)
async def test_tables_of_10_gb_of_one_partner_keep_nobody_else_waiting(
    neighbours: Neighbours, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the external door; needs two gigabytes of disk."""
    caplog.set_level(logging.INFO)
    async with reading(neighbours.ledger) as conn:
        greedy = await accounts.find_partner(conn, GREEDY)
    assert greedy is not None
    folder = tmp_path / "customer"
    async with (
        serving(neighbours.settings, neighbours.ledger, neighbours.redis) as rest,
        sandbox_of(rest, greedy, folder) as external,
    ):
        audience_id = await external.create(
            fields=[{"name": "mail", "type": "string", "identityNs": "email_lc_sha256"}]
        )
        await asyncio.to_thread(_write_tables, folder / "in")
        started = await external.start(audience_id)
        assert started.status == 200, started
    async with reading(neighbours.ledger) as conn:
        [large] = await jobs.jobs(conn, 1)

    took_s = []
    while (now := await neighbours.job(large)).state in (JobState.QUEUED, JobState.RUNNING):
        phase = "writes" if now.report.written else "reads" if now.report.rows else "collects"
        took_s.append((phase, await neighbours.one_line(), await neighbours.opt_out()))
        if len(took_s) > MOST_LINES:
            break
    for phase, line_s, no_s in took_s:
        _log.info("%s: a line after %.2f s, an opt-out after %.2f s", phase, line_s, no_s)
    _log.info("the loader's memory: %.0f MB at most", neighbours.loader_peak_mb)

    assert (await neighbours.job(large)).state is not JobState.FAILED
    assert len(took_s) >= LEAST_LINES
    assert max(max(line, no) for _, line, no in took_s) < PROMISED_S
    assert neighbours.loader_peak_mb < 400
