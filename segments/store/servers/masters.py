"""
The servers of a store: one, or the masters of a Cluster.

Questions about a server rather than a key (hash packing, eviction, run) go to each. All other code
sees a single store.

    run    "<run_id>:<master_replid>"    identifies the memory of a server over time

`run_id` changes with each start; `master_replid` with each promotion of a replica, which may lack
its master's last writes. (`master_replid` also changes with the first replica, and after an hour
without any: then opt-outs are applied once too often.)
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    MovedError,
    NoScriptError,
    RedisError,
    TryAgainError,
)

from segments.store.error_code import error_code, note_command
from segments.store.keys import SLOTS, tag_of
from segments.store.reader import RUN_COMMAND, StoreUnusable, parse_run
from segments.store.scripts import Script
from segments.store.servers.cluster_client import Cluster
from segments.store.servers.majority import WITHIN_S

REDIRECTS: Final = (AskError, MovedError, TryAgainError)
"""A slot is moving or has moved: no fault of the node."""


class Server(NamedTuple):
    """A server of a store."""

    redis: Redis
    node: ClusterNode | None  # of a Cluster
    slots: tuple[tuple[int, int], ...]

    async def execute(self, *command: Any) -> Any:
        """Send any command to this server."""
        if self.node is None:
            return await self.redis.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py
        try:
            return await self.node.execute_command(*command)
        except RedisError as error:
            note_command(error, command[0], self.node.name)
            raise

    def key(self, prefix: bytes) -> bytes:
        """Return a key on this server: `prefix`, and in a Cluster a tag of its slots."""
        if self.node is None:
            return prefix
        return b"%s:{%s}" % (prefix, tag_of(self.slots[0][0]))

    def has(self, slot: int) -> bool:
        """Tell whether this server has a slot."""
        return any(first <= slot <= last for first, last in self.slots)


class Runs(NamedTuple):
    """The current runs of a store's servers."""

    run_to_server: Mapping[bytes, Server]
    is_complete: bool  # all servers have answered


def is_cluster(redis: Redis) -> bool:
    """Tell whether a store is a Cluster."""
    return isinstance(redis, Cluster)


def notes_changes(redis: Redis) -> bool:
    """
    Tell whether a bucket's writer can note the change atomically.

    Not in a Cluster, where they lie in different slots; nor in one of a single server, which our
    client takes for a plain server until an error.
    """
    return not is_cluster(redis) and redis not in _OF_SLOTS


def note_slots(redis: Redis, error: Exception) -> bool:
    """Tell whether an error shows a Cluster's server, and remember that."""
    is_said = isinstance(error, ClusterCrossSlotError) or error_code(error) == "CROSSSLOT"
    if is_said:
        _OF_SLOTS.add(redis)
    return is_said


_OF_SLOTS: Final[WeakSet[Redis]] = WeakSet()


async def masters(redis: Redis) -> list[Server]:
    """
    Return the store's servers; in a Cluster also masters without slots.

    Raises:
        redis.exceptions.ConnectionError: No node names them.
    """
    if not isinstance(redis, Cluster):
        return [Server(redis, None, ((0, SLOTS - 1),))]
    return [
        Server(redis, redis.node(shard.master), shard.slots)
        for shard in (await redis.view()).shards
    ]


async def runs(redis: Redis) -> Runs:
    """
    Ask each server for its run.

    Omits nodes of a Cluster that don't answer; a single server must answer.
    """
    servers = await masters(redis)
    if not is_cluster(redis):
        return Runs({await _run(servers[0]): servers[0]}, is_complete=True)
    said = await asyncio.gather(*map(_run_or_none, servers))
    found = {run: server for run, server in zip(said, servers, strict=True) if run is not None}
    return Runs(found, len(found) == len(servers))


async def load_script(redis: Redis, source: bytes) -> None:
    """Load a script into every reachable server."""
    for server in await masters(redis):
        try:
            await server.execute("SCRIPT LOAD", source)
        except RedisError:
            if server.node is None:
                raise
            # Callers' own commands meet the absence again.


async def run_script(redis: Redis, script: Script, key: bytes, *arguments: object) -> Any:
    """
    Run a script on a key, after loading the script where missing.

    Raises:
        redis.exceptions.RedisError: The script failed, or its result is unknown.
    """
    try:
        return await redis.evalsha(script.sha, 1, key, *arguments)  # type: ignore[arg-type]
    except NoScriptError:
        await load_script(redis, script.source)
        return await redis.evalsha(script.sha, 1, key, *arguments)  # type: ignore[arg-type]


async def sure_pipeline(redis: Redis) -> Pipeline:
    """
    Return a reusable pipeline to the current masters, never to former ones.

    `segments.store.servers.cluster_client` explains why; the same holds under Sentinels.

    Raises:
        redis.exceptions.RedisError: The Sentinels don't name the master.
    """
    if isinstance(redis, Cluster):
        return redis.pipeline(surely=True)
    pool = redis.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        # Drops the connections to any other server.
        await pool.get_master_address()  # type: ignore[no-untyped-call] # redis-py
    return redis.pipeline(transaction=False)


async def tell_clients(redis: Redis) -> bool:
    """Tell whether any server notifies clients of changes; silent servers count."""
    return any(await asyncio.gather(*map(_tells_clients, await masters(redis))))


def parse_info(reply: Any) -> dict[str, str]:
    """Parse the reply to INFO from any server."""
    lines = _text(reply).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


class Memory(NamedTuple):
    """The memory of all servers."""

    used_bytes: int
    limit_bytes: int
    """0: a server has no limit (`maxmemory`)."""


async def memory(redis: Redis) -> Memory:
    """
    Ask each server for its memory.

    Raises:
        redis.exceptions.RedisError: A server does not answer, or refuses INFO.
    """
    found = [
        parse_info(await server.execute(b"INFO", b"memory")) for server in await masters(redis)
    ]
    limits = [int(each.get("maxmemory", 0)) for each in found]
    used_bytes = sum(int(each.get("used_memory", 0)) for each in found)
    return Memory(used_bytes, sum(limits) if all(limits) else 0)


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
