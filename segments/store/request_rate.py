"""
A rate limit for each account, shared by all replicas of the REST doors.

    seg:1:rate:<account>    a leaky bucket (rate.lua); deleted as soon as it is empty

A bucket lost with the store starts afresh.
"""

import math
from typing import TYPE_CHECKING

from segments.model.limit import Limit
from segments.store.keys import rate_key
from segments.store.scripts import RATE
from segments.store.servers.masters import run_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

_MS = 1000


async def admit(redis: "Redis", account_id: int | None, limit: Limit, *, now_s: float) -> int:
    """
    Count a request of an account, or the operator (`None`), if the limit allows.

    `now_s` is Unix time; the replicas' clocks differ by less than `limit.drop_s`.

    Returns:
        Whole seconds until a request fits; 0: it was counted.

    Raises:
        redis.exceptions.RedisError: The write failed, or its result is unknown.
    """
    times_s = (now_s, limit.drop_s, limit.full_s)
    in_ms = [f"{time_s * _MS:.3f}" for time_s in times_s]
    wait_ms = await run_script(redis, RATE, rate_key(account_id), *in_ms)
    return math.ceil(int(wait_ms) / _MS)
