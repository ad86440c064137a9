"""A seeded store, and servers beside it, shared by the measurements of shapes, rates and tails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from loadtest.bench.against_peers import SEGMENTS_PER_ID, cpus, seeded
from loadtest.bench.machine import machine, store_version
from loadtest.bench.peers.build import FAST, Deadline, Peer, peers
from loadtest.population import Population
from loadtest.servers import Servers, pinned, to_cpu
from loadtest.traffic import Traffic
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.servers.connection import connect


class NotPossible(Exception):
    """A tool is missing; the message says which."""


class Stage(NamedTuple):
    """A store with persons, and where servers are started."""

    directory: Path
    settings: Settings
    traffic: Traffic
    redis: Redis
    servers: Servers
    peer: Peer
    """Go's fasthttp, built."""
    head: str
    """The machine and the versions."""


@asynccontextmanager
async def staged(
    directory: Path, ids: int, deadline: Deadline, *, more_ids: int = 0
) -> AsyncIterator[Stage]:
    """
    Seed a store and stop all in the end; servers have a CPU, driver and store another.

    `directory` outlives the servers, `deadline` is the peer's, `more_ids` reserves room.

    Raises:
        NotPossible: The peer can't be built.
    """
    settings = Settings(
        data_dir=directory,
        redis_url=None,
        ledger_url=None,
        blob_url=None,
        expected_ids=ids + more_ids,
    )
    [peer] = peers(directory, settings.store_url, deadline, names=[FAST])
    if not isinstance(peer, Peer):
        raise NotPossible(f"{peer.name}: {peer.why}")
    population = Population(ids, SEGMENTS_PER_ID)
    store = EmbeddedStore(directory)
    await store.start()
    try:
        async with connect(settings.store_url) as redis:
            await seeded(redis, settings, population)
            server_cpu, driver_cpu = cpus()
            await to_cpu(redis, driver_cpu)
            head = f"{machine()}, {await store_version(redis)}; {peer.versions}."
            with pinned(driver_cpu):
                async with Servers(server_cpu) as servers:
                    yield Stage(
                        directory, settings, Traffic(population), redis, servers, peer, head
                    )
    finally:
        await store.stop()
