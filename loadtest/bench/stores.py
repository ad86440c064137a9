import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from loadtest.bench.redis_cluster import cluster
from loadtest.servers import cpu_s, used_bytes
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.servers.connection import connect


class Store(NamedTuple):
    """A running store that began empty."""

    url: str
    pids: tuple[int, ...]
    urls: tuple[str, ...]  # of the servers that hold the keys, each once

    def cpu_s(self) -> float:
        """Return the CPU time of all its servers."""
        return sum(map(cpu_s, self.pids))

    async def used_bytes(self) -> int:
        """Return the memory of its keys, with each server's overhead."""
        used = 0
        for url in self.urls:
            async with connect(url) as redis:
                used += await used_bytes(redis)
        return used


@asynccontextmanager
async def empty_store(data_dir: Path) -> AsyncIterator[Store]:
    """Run an embedded store, and delete it."""
    server = EmbeddedStore(data_dir)
    await server.start()
    try:
        url = Settings(data_dir=data_dir, redis_url=None).store_url
        async with connect(url) as redis:
            pid = int((await redis.info("server"))["process_id"])
        yield Store(url, (pid,), (url,))
    finally:
        await server.stop()
        shutil.rmtree(data_dir)


@asynccontextmanager
async def empty_cluster(data_dir: Path, redis_cli: str) -> AsyncIterator[Store]:
    """Run a Cluster, and delete it."""
    try:
        async with cluster(data_dir / "nodes", redis_cli) as made:
            yield Store(made.url, made.pids, made.masters)
    finally:
        shutil.rmtree(data_dir)
