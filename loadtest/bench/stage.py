"""A seeded store, and servers beside it, shared by the measurements of shapes, rates and tails."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Stage:
    """A store with persons, and where servers are started."""

    directory: Path
    settings: Settings
    traffic: Traffic
    redis: Redis
    servers: Servers
    head: str
    """The machine and the versions."""


@dataclass(frozen=True)
class PeerStage(Stage):
    """A stage with the peer beside whom ours is measured."""

    peer: Peer
    """Go's fasthttp, built."""


@asynccontextmanager
async def staged(
    directory: Path, ids: int, *, more_ids: int = 0, versions: Sequence[str] = ()
) -> AsyncIterator[Stage]:
    """
    Seed a store and stop all in the end; servers have a CPU, driver and store another.

    `directory` outlives the servers, `more_ids` reserves room, `versions` are of others.
    """
    settings = _settings_of(directory, ids + more_ids)
    population = Population(ids, SEGMENTS_PER_ID)
    store = EmbeddedStore(directory)
    await store.start()
    try:
        async with connect(settings.store_url) as redis:
            await seeded(redis, settings, population)
            server_cpu, driver_cpu = cpus()
            await to_cpu(redis, driver_cpu)
            head = f"{'; '.join((f'{machine()}, {await store_version(redis)}', *versions))}."
            with pinned(driver_cpu):
                async with Servers(server_cpu) as servers:
                    yield Stage(directory, settings, Traffic(population), redis, servers, head)
    finally:
        await store.stop()


@asynccontextmanager
async def staged_beside_go(
    directory: Path, ids: int, deadline: Deadline, *, more_ids: int = 0
) -> AsyncIterator[PeerStage]:
    """
    As `staged`, with the peer built first, until its `deadline`.

    Raises:
        NotPossible: The peer can't be built.
    """
    store_url = _settings_of(directory, ids + more_ids).store_url
    [peer] = peers(directory, store_url, deadline, names=[FAST])
    if not isinstance(peer, Peer):
        raise NotPossible(f"{peer.name}: {peer.why}")
    async with staged(directory, ids, more_ids=more_ids, versions=[peer.versions]) as stage:
        yield PeerStage(**vars(stage), peer=peer)


def _settings_of(directory: Path, ids: int) -> Settings:
    return Settings(
        data_dir=directory, redis_url=None, ledger_url=None, blob_url=None, expected_ids=ids
    )
