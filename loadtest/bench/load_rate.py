"""
`python -m loadtest load-bench`: how fast a file is loaded into the store.

    ours    the production loader, from the start of the job to its end:
            digest, inflation, parsing, sorting, merge, checkpoints in the ledger
    pipe    `redis-cli --pipe` of one SADD a row; the commands were written before
    cluster ours into a local Redis Cluster of three masters and their replicas;
            CPU of all six, bytes of the masters

Each side has its own embedded store, on an empty directory, with the product's settings (and
append-only file), while the other's does not run. Results are counted first.

`every_kind` adds loads into a store in use: the same rows again, another segment for the same
persons, and a removal.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from loadtest.bench.load_rate_report import Side, table
from loadtest.bench.loader_at_work import (
    PARTNER_ID,
    WrongCount,
    ended,
    loading_into,
    measured_of,
)
from loadtest.bench.rows import Rows
from loadtest.bench.stores import Store, empty_cluster, empty_store
from loadtest.servers import peak_bytes
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import FileForm, Metadata, SegmentForm
from segments.files.blobs import Blobs
from segments.files.chunks import file_chunks
from segments.model.job import Job, JobState
from segments.model.order import SegmentAction
from segments.model.record import Tally
from segments.store.servers.connection import connect


class Deed(NamedTuple):
    """An operation on the rows, in our terms and in Redis's."""

    name: str
    segment: str
    action: SegmentAction
    command: str
    changes_each: bool


DEEDS = (
    Deed("into an empty store", "1", SegmentAction.ADD, "SADD", True),
    Deed("the same rows again", "1", SegmentAction.ADD, "SADD", False),
    Deed("another segment", "2", SegmentAction.ADD, "SADD", True),
    Deed("removal of the first", "1", SegmentAction.REMOVE, "SREM", True),
)


def load_bench(*, rows: int, rounds: int, every_kind: bool, with_cluster: bool) -> None:
    """
    Run the benchmark, and print the table; `rounds` loads into an empty store of each side.

    Raises:
        WrongCount: A side did not load the rows as expected.
        NotMade: There is no Cluster to load into.
    """
    deeds = DEEDS if every_kind else DEEDS[:1]
    with tempfile.TemporaryDirectory(prefix="rtb-load-") as directory:
        asyncio.run(_load_bench(Path(directory), Rows(rows), rounds, deeds, with_cluster))


async def _load_bench(
    directory: Path, rows: Rows, rounds: int, deeds: Sequence[Deed], with_cluster: bool
) -> None:
    redis_cli = shutil.which("redis-cli")
    if redis_cli is None:
        _say("redis-cli is not installed (Debian: redis-tools): its side is skipped")
    _say(f"writing a file of {rows.count:,} rows")
    file = directory / "rows.sha2.txt.gz"
    digest = rows.write_file(file)
    ours, pipe, clustered = [], [], []
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}: the loader")
        store = empty_store(directory / "ours")
        ours.append(await _ours(directory / "ours", store, file, digest, rows, deeds))
        if redis_cli is not None:
            _say(f"round {number + 1} of {rounds}: redis-cli --pipe")
            pipe.append(await _pipe(directory / "pipe", redis_cli, rows, deeds))
        if redis_cli is not None and with_cluster:
            _say(f"round {number + 1} of {rounds}: the loader, into a cluster")
            store = empty_cluster(directory / "cluster", redis_cli)
            clustered.append(await _ours(directory / "cluster", store, file, digest, rows, deeds))
    print(table(rows.count, [deed.name for deed in deeds], ours, pipe, clustered))


async def _ours(
    data_dir: Path,
    store_to_be: AbstractAsyncContextManager[Store],
    file: Path,
    digest: str,
    rows: Rows,
    deeds: Sequence[Deed],
) -> Side:
    async with loading_into(store_to_be, data_dir, rows.count) as at_work:
        measured = []
        for deed in deeds:
            metadata = metadata_of(digest, rows, deed)
            before = at_work.cpu_s()
            job = await accept(
                at_work.ledger, Blobs.open(at_work.settings.blobs_at), metadata, file_chunks(file),
                door="bench", file_name=file.name, now_s=time.time(),
            )  # fmt: skip
            job = await ended(at_work.ledger, job, at_work.loader)
            _check(job, rows, deed)
            measured.append(await at_work.cost_of(rows.count, job, before))
        return Side(measured, peak_bytes(at_work.loader.pid))


async def _pipe(data_dir: Path, redis_cli: str, rows: Rows, deeds: Sequence[Deed]) -> Side:
    commands = data_dir.with_suffix(".resp")
    async with empty_store(data_dir) as store, connect(store.url) as redis:
        empty_bytes = await store.used_bytes()
        measured = []
        for deed in deeds:
            rows.write_commands(commands, deed.command, deed.segment)
            before = store.cpu_s(), _children_s()
            began_s = time.monotonic()
            with commands.open("rb") as stdin:
                process = await asyncio.create_subprocess_exec(
                    redis_cli, "-s", str(data_dir / "store" / "valkey.sock"), "--pipe",
                    stdin=stdin, stdout=asyncio.subprocess.PIPE,
                )  # fmt: skip
                said, _ = await process.communicate()
            took_s = time.monotonic() - began_s
            after = store.cpu_s(), _children_s()
            commands.unlink()
            if f"errors: 0, replies: {rows.count}" not in said.decode():
                raise WrongCount(f"redis-cli --pipe, {deed.name}: {said.decode().strip()}")
            held_bytes = await store.used_bytes() - empty_bytes
            measured.append(measured_of(rows.count, took_s, before, after, held_bytes))
        if await redis.dbsize() != rows.count:  # each person stays in a segment to the end
            raise WrongCount(f"redis-cli --pipe left {await redis.dbsize():,} keys")
    return Side(measured)


def _check(job: Job, rows: Rows, deed: Deed) -> None:
    report = job.report
    done = Tally(*(getattr(report, name) for name in Tally._fields))
    if not deed.changes_each:
        due = Tally(unchanged=rows.count)
    elif deed.action is SegmentAction.ADD:
        due = Tally(added=rows.count)
    else:
        due = Tally(removed=rows.count)
    if job.state is not JobState.DONE or done != due:
        raise WrongCount(f"the loader, {deed.name}: {job.state}, {done}, {job.error or 'no error'}")


def metadata_of(digest: str, rows: Rows, deed: Deed) -> Metadata:
    """Return the metadata with which `PARTNER_ID` delivers the rows for a deed."""
    return Metadata(
        partner_id=PARTNER_ID,
        file=FileForm(
            name="rows.sha2.txt.gz",
            hash="md5",
            digest=digest,
            date=datetime.now(UTC).date().isoformat(),
            records=rows.count,
        ),
        # A new name makes a new delivery: a repeated delivery would be the same job.
        segments=(SegmentForm(id=deed.segment, name=deed.name, action=deed.action),),
    )


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
