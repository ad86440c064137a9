"""
What a writer owes those who read from replicas of a Cluster: their confirmation.

A worker with RTB_READ_REPLICAS says so in `seg:1:replica_reads`, as one that caches does in
`seg:1:caching`, and asks a replica only while that stands. A writer that finds it there has
every replica that is connected to a master confirm all that it has written (WAIT), and does not
acknowledge what one of them lacks. Two things follow from what a replica is:

- WAIT is of one connection, and counts what that one has written: so something is written on
  it first, behind what was written on others.
- A replica that has lost its master is not connected, and nobody waits for it. A worker finds
  that out with its next look, and asks it no more (`rtb.lookup.cluster.node`); one that has
  only just come back is asked once its copy of the loader's note has changed.
"""

import asyncio
import re
from typing import TYPE_CHECKING, Final, cast

from redis.asyncio.cluster import PipelineCommand

from segments.store import keys
from segments.store.cache_lease import lease_ms
from segments.store.reader import StoreUnusable
from segments.store.servers.masters import Server, is_cluster, masters

if TYPE_CHECKING:
    from redis.asyncio import Redis

WITHIN_MS: Final = 1000
"""How long a replica may take; links between data centres take a tenth of it."""

_ONLINE: Final = re.compile(rb"^slave\d+:.*\bstate=online\b", re.MULTILINE)


async def wait_for_replicas(redis: "Redis") -> None:
    """
    Wait until every replica that bids may be answered from has what was written before this call.

    Raises:
        StoreUnusable: One does not confirm it in time; nothing may be acknowledged.
        redis.exceptions.RedisError: It can't be told, likewise.
    """
    if is_cluster(redis) and await lease_ms(redis, keys.REPLICA_READS):
        await asyncio.gather(*(_confirmed(each) for each in await masters(redis) if each.slots))


async def _confirmed(server: Server) -> None:
    said = await server.execute(b"INFO", b"replication")
    wanted = len(_ONLINE.findall(said)) if isinstance(said, bytes) else 0
    if not wanted:
        return
    assert server.node is not None, "of a Cluster"
    # In one write, so on one connection.
    write = PipelineCommand(0, "SET", server.key(keys.REPLICA_READS + b":written"), 1)
    wait = PipelineCommand(1, "WAIT", wanted, WITHIN_MS)
    await server.node.execute_pipeline([write, wait])
    for command in (write, wait):
        if isinstance(command.result, Exception):
            raise command.result
    confirmed: int = cast("int", wait.result)
    if confirmed < wanted:
        raise StoreUnusable(
            f"{wanted - confirmed} of {wanted} replicas of a master have not confirmed the write"
            " (RTB_READ_REPLICAS)"
        )
