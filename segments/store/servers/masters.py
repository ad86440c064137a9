"""
The servers that a store is made of: one, or the masters of a Cluster.

What is asked of a server and not of a key (how it packs hashes, whether it evicts,
which run of it this is) is asked of each of them. Everybody else sees one store.

    run    "<run_id>:<master_replid>"    what is in a server's memory, from when on?

`run_id` is new with each start of a server; `master_replid` with each promotion of a
replica, whose memory may lack the last that its master was told. (It is new, too,
when a server gets its very first replica, and when it has been without one for an
hour: then the opt-outs are brought in once too often.)
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from segments.store.keys import SLOTS, tag_of
from segments.store.reader import RUN_COMMAND, StoreUnusable, parse_run
from segments.store.servers.cluster_client import Cluster
from segments.store.servers.majority import WITHIN_S


class Server(NamedTuple):
    """One server of a store."""

    redis: Redis
    node: ClusterNode | None  # of a Cluster
    slots: tuple[tuple[int, int], ...]

    async def execute(self, *command: Any) -> Any:
        """Send a command to this server, whatever it is about."""
        if self.node is None:
            return await self.redis.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py
        return await self.node.execute_command(*command)

    def key(self, prefix: bytes) -> bytes:
        """Return a key of this server's: `prefix`, and in a Cluster a tag of a slot that it has."""
        if self.node is None:
            return prefix
        return b"%s:{%s}" % (prefix, tag_of(self.slots[0][0]))

    def has(self, slot: int) -> bool:
        """Tell whether a slot is this server's."""
        return any(first <= slot <= last for first, last in self.slots)


class Runs(NamedTuple):
    """Which runs of its servers a store is made of."""

    run_to_server: Mapping[bytes, Server]
    is_complete: bool  # all servers have answered


def is_cluster(redis: Redis) -> bool:
    """Tell whether a store is a Cluster."""
    return isinstance(redis, Cluster)


async def masters(redis: Redis) -> list[Server]:
    """
    Return the servers that hold the store's keys; in a Cluster also those that may soon.

    Raises:
        redis.exceptions.ConnectionError: None says which they are.
    """
    if not isinstance(redis, Cluster):
        return [Server(redis, None, ((0, SLOTS - 1),))]
    return [
        Server(redis, redis.node(shard.master), shard.slots)
        for shard in (await redis.view()).shards
    ]


async def runs(redis: Redis) -> Runs:
    """
    Ask each server which run of it this is.

    Those of a Cluster that don't answer are left out; one server must.
    """
    servers = await masters(redis)
    if not is_cluster(redis):
        return Runs({await _run(servers[0]): servers[0]}, is_complete=True)
    said = await asyncio.gather(*map(_run_or_none, servers))
    found = {run: server for run, server in zip(said, servers, strict=True) if run is not None}
    return Runs(found, len(found) == len(servers))


async def load_script(redis: Redis, source: bytes) -> None:
    """Let every server that can be reached know a script."""
    for server in await masters(redis):
        try:
            await server.execute("SCRIPT LOAD", source)
        except RedisError:
            if server.node is None:
                raise
            # Whoever has a slot of it meets the script's absence again, and the node's.


async def sure_pipeline(redis: Redis) -> Pipeline:
    """
    Return a pipeline, for many rounds, to those who have the keys now and to nobody who had them.

    Why that matters, and is enough, see `segments.store.servers.cluster_client`; a master that
    Sentinels have replaced is no other.

    Raises:
        redis.exceptions.RedisError: The Sentinels don't say who it is.
    """
    if isinstance(redis, Cluster):
        return redis.pipeline(surely=True)
    pool = redis.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        # Drops the connections to any other.
        await pool.get_master_address()  # type: ignore[no-untyped-call] # redis-py
    return redis.pipeline(transaction=False)


async def tell_clients(redis: Redis) -> bool:
    """Tell whether any server tells a client of changes; one that can't be asked may do so."""
    return any(await asyncio.gather(*map(_tells_clients, await masters(redis))))


def parse_info(reply: Any) -> dict[str, str]:
    """Read the reply to INFO, which may have been asked of any server."""
    lines = _text(reply).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def _run(server: Server) -> bytes:
    return parse_run(_text(await server.execute(*RUN_COMMAND)))


async def _run_or_none(server: Server) -> bytes | None:
    try:
        async with asyncio.timeout(WITHIN_S):
            return await _run(server)
    except (RedisError, OSError, TimeoutError, StoreUnusable):
        return None


async def _tells_clients(server: Server) -> bool:
    try:
        clients = parse_info(await server.execute(b"INFO", b"clients"))
    except RedisError:
        if server.node is None:
            raise
        return True
    return clients.get("tracking_clients") != "0"


def _text(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else b""
