"""
The rate limit per account, shared by all its users and tokens.

Requests are counted in the store, for all replicas together. If the store is away, each process
counts for itself, and asks again after `AGAIN_AFTER_S`. The limit is not for billing.
"""

import asyncio
import math

from redis.exceptions import RedisError

from segments.doors.rest.auth import Known
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.doors.rest.throttle import Throttle
from segments.model.limit import Limit
from segments.store import request_rate

WITHIN_S = 0.5
"""How long a request waits for its count."""

AGAIN_AFTER_S = 5.0


class RateLimit:
    """Admits callers up to their account's rate."""

    def __init__(self, services: Services) -> None:
        options = services.options
        self._services = services
        self._limit = Limit(options.requests_burst, options.requests_per_s)
        self._requests = Throttle(self._limit, services.clock_s)
        self._alone_until_s = -math.inf

    async def admit(self, caller: Known) -> None:
        """
        Count a request.

        Raises:
            Problem: 429: too many, with a Retry-After.
        """
        account_id = None if caller.account is None else caller.account.id
        wait_s = await self._wait_s(account_id)
        if wait_s:
            raise Problem(
                429, "too many requests of this account", headers={"Retry-After": str(wait_s)}
            )

    async def _wait_s(self, account_id: int | None) -> int:
        services = self._services
        if services.clock_s() >= self._alone_until_s:
            try:
                async with asyncio.timeout(WITHIN_S):
                    return await request_rate.admit(
                        services.redis, account_id, self._limit, now_s=services.now_s()
                    )
            except (RedisError, OSError):  # TimeoutError is an OSError
                self._alone_until_s = services.clock_s() + AGAIN_AFTER_S
        name = "" if account_id is None else str(account_id)
        wait_s = self._requests.wait_s(name)
        if not wait_s:
            self._requests.failed(name)
        return wait_s
