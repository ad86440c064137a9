"""
Asks all Sentinels where the master is, and believes the one that knows of the latest failover.

redis-py believes the first that answers. But one Sentinel makes a failover, and the others
hear of it within the two seconds in which they greet each other: asked in between, when
the old master is up again, they name that one. Each says how new what it knows is, by
an epoch that rises with every failover.
"""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import RedisError

from segments.store.servers.majority import ask_majority


class Sentinels(Sentinel):
    """Like redis-py's, but for what the module says."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """
        Return the host and port of a service's master.

        Raises:
            MasterNotFoundError: Nobody knows one that is up.
        """
        states = await ask_majority([_state(one, service_name) for one in self.sentinels])
        latest = max((state["config-epoch"] for state in states), default=0)
        for state in states:
            if state["config-epoch"] == latest and self.check_master_state(state, service_name):
                return str(state["ip"]), int(state["port"])
        raise MasterNotFoundError("no Sentinel names a master that is up")


async def _state(sentinel: Redis, service_name: str) -> dict[str, Any] | None:
    try:
        found = await sentinel.sentinel_masters()
    except (RedisError, OSError):
        return None
    assert isinstance(found, dict), "by name, in the protocol that we speak"
    return found.get(service_name)
