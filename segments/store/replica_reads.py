"""
Before a writer acknowledges: the wait for replicas of a Cluster that bids read from.

A worker with RTB_READ_REPLICAS reads from replicas only while registered in `seg:1:replica_reads`.
A writer that finds the key acknowledges only writes that every connected replica confirms (WAIT):

- WAIT covers only its own connection, which therefore writes something after the others.
- A replica that has lost its master is not waited for. Workers stop reading from it at their next
  check (`rtb.lookup.cluster.node`), until its copy of the loader's freshness note has changed
  again.
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
"""For a replica's answer; links between data centres take a tenth of that."""

_ONLINE: Final = re.compile(rb"^slave\d+:.*\bstate=online\b", re.MULTILINE)


async def wait_for_replicas(redis: "Redis") -> None:
    """
    Wait until every replica that bids may read has all earlier writes.

    Raises:
        StoreUnusable: A replica does not confirm in time; nothing may be acknowledged.
        redis.exceptions.RedisError: The state is unknown; nothing may be acknowledged.
    """
    if is_cluster(redis) and await lease_ms(redis, keys.REPLICA_READS):
        await asyncio.gather(*(_confirmed(each) for each in await masters(redis) if each.slots))


async def _confirmed(server: Server) -> None:
    said = await server.execute(b"INFO", b"replication")
    wanted = len(_ONLINE.findall(said)) if isinstance(said, bytes) else 0
    if not wanted:
        return
    assert server.node is not None, "of a Cluster"
    # In a batch, so on the same connection.
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
