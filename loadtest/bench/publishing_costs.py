"""
The costs of publishing to others: to a write, which notes its buckets, and to a bid's lookup.

    writes    the same merges by turns, unpublished and published
    lookups   of one id, one at a time, by another process, in ms: alone, during a sweep, and
              during a full in the background
"""

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import redis as sync_redis
import uvloop

from loadtest.bench.publishing import Published, published
from loadtest.percentile import percentile
from loadtest.servers import cpu_s
from segments.model.record import Change
from segments.publish.options import PublishOptions
from segments.store import keys
from segments.store.changed_buckets import ChangedBuckets
from segments.store.reader import read_meta
from segments.store.writer import Writer
from segments.upkeep.sweep import sweep_store

_ROUNDS: Final = 7
_RATE: Final = 1_000
_AT_LEAST_S: Final = 3.0


class WriteCost(NamedTuple):
    """A published write's cost, by the same write's unpublished."""

    kind: str
    wall: float
    store_cpu: float


async def write_costs(made: Published, ids: int) -> list[WriteCost]:
    """Measure ratios of medians."""
    redis, writer = made.redis, Writer(made.redis, await read_meta(made.redis))
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (ids, 16), np.uint8)

    async def fill() -> None:
        await writer.merge(rows, [Change(made.audience_ids[0], is_add=True)])

    async def empty() -> None:
        async for name in redis.scan_iter(keys.BUCKET_PREFIX + b"*", 1_000):
            await redis.unlink(name)

    turns = 0

    async def merge() -> None:
        nonlocal turns
        turns += 1
        await writer.merge(rows, [Change(made.audience_ids[1], True, 3_000 + turns)])

    found = [await _ratio(made, "empty buckets, filled", fill, empty)]
    await fill()
    found.append(await _ratio(made, "existing buckets, merged", merge))
    return found


async def _nothing() -> None:
    pass


async def _ratio(
    made: Published,
    kind: str,
    write: Callable[[], Awaitable[None]],
    before: Callable[[], Awaitable[None]] = _nothing,
) -> WriteCost:
    meta, changed = await read_meta(made.redis), ChangedBuckets(made.redis, "bench")
    walls: tuple[list[float], list[float]] = ([], [])
    cpus: tuple[list[float], list[float]] = ([], [])
    for round_ in range(2 * _ROUNDS):
        is_noted = round_ % 2
        await (changed.begin(meta, time.time()) if is_noted else changed.end())
        await before()
        began_s, cpu_began_s = time.perf_counter(), cpu_s(made.store_pid)
        await write()
        walls[is_noted].append(time.perf_counter() - began_s)
        cpus[is_noted].append(cpu_s(made.store_pid) - cpu_began_s)
    await changed.end()
    return WriteCost(
        kind,
        statistics.median(walls[1]) / statistics.median(walls[0]),
        statistics.median(cpus[1]) / statistics.median(cpus[0]),
    )


async def lookup_latencies(made: Published) -> dict[str, list[float]]:
    """Measure lookups in ms."""

    async def alone() -> None:
        return None

    async def sweep() -> None:
        writer = Writer(made.redis, await read_meta(made.redis))
        await sweep_store(made.ledger, made.redis, writer, time.time())

    publisher = made.publisher(PublishOptions(full_every_s=0))
    await publisher.step()

    async def full() -> None:
        await publisher.step()
        await publisher.full_made()

    return {
        name: await _beside(made, act)
        for name, act in (("alone", alone), ("sweep", sweep), ("full", full))
    }


async def _beside(made: Published, act: Callable[[], Awaitable[None]]) -> list[float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    prober = context.Process(target=_probe, args=(theirs, made.socket, made.bucket_bits))
    prober.start()
    theirs.close()  # so that its end is noticed
    try:
        ours.recv()  # it is connected
        ours.send(None)
        began_s = time.monotonic()
        await act()
        while time.monotonic() - began_s < _AT_LEAST_S:
            await act()
            await asyncio.sleep(0.05)
        ours.send(None)
        found: list[float] = ours.recv()
        return found
    finally:
        prober.join()


def _probe(line: Connection, socket: str, bucket_bits: int) -> None:
    """Look up an id at most `_RATE` times a second, never two at once."""
    rng = np.random.default_rng(2)
    client = sync_redis.Redis(unix_socket_path=socket, protocol=2)
    client.ping()
    line.send(None)
    line.recv()
    took_ms: list[float] = []
    while not line.poll(1 / _RATE):
        key = keys.bucket_key(int(rng.integers(1 << bucket_bits))).decode()
        began_s = time.perf_counter()
        client.hget(key, "12345678")
        took_ms.append((time.perf_counter() - began_s) * 1e3)
    line.recv()
    line.send(took_ms)


async def measure(ids: int, segments_per_id: int) -> tuple[dict[str, list[float]], list[WriteCost]]:
    """Measure lookups first, as the writes change the store."""
    with tempfile.TemporaryDirectory(prefix="publish-") as folder:
        async with published(Path(folder), "random", ids, segments_per_id) as made:
            return await lookup_latencies(made), await write_costs(made, ids)


def measure_and_say(ids: int, segments_per_id: int, say: Callable[[str], None]) -> None:
    """Measure, and print two tables."""
    name_to_ms, costs = uvloop.run(measure(ids, segments_per_id))
    say(f"\n{'lookups, ms':26}{'count':>9}{'p50':>8}{'p95':>8}{'p99':>8}{'p99.9':>8}")
    for name, took_ms in name_to_ms.items():
        took_ms.sort()
        at = "".join(f"{percentile(took_ms, q):>8.2f}" for q in (50, 95, 99, 99.9))
        say(f"{name:26}{len(took_ms):>9,}{at}")
    say(f"\n{'writes, while published':26}{'wall':>9}{'store CPU':>12}")
    for cost in costs:
        say(f"{cost.kind:26}{cost.wall:>9.3f}{cost.store_cpu:>12.3f}")
