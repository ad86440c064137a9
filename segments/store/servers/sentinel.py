"""
Asks all Sentinels for the master, and trusts the one with the latest failover.

redis-py trusts the first answer. But other Sentinels hear of a failover up to two seconds later,
and meanwhile name the old master if that is up again. Each reports its epoch, which rises with
every failover.
"""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import RedisError

from segments.store.servers.majority import ask_majority


class Sentinels(Sentinel):
    """redis-py's class, with the rule of this module."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """
        Return the host and port of a service's master.

        Raises:
            MasterNotFoundError: No Sentinel knows a master that is up.
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
