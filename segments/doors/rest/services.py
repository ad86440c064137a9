"""What the REST doors work with; made once, by the composition root."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.rest.metrics import ApiMetrics
from segments.doors.rest.not_in_force import NotInForceYet
from segments.doors.rest.options import RestOptions
from segments.doors.rest.passwords import Passwords
from segments.files.blobs import Blobs
from segments.projection.catalog import publish_catalog
from segments.projection.in_force import withdraw_from_bids
from segments.projection.waiting_opt_outs import WaitingOptOuts
from segments.store.reader import StoreUnusable


@dataclass(frozen=True)
class Services:
    """The stores, what is set of all doors, and the time."""

    options: RestOptions
    ledger: AsyncEngine
    redis: Redis
    blobs: Blobs
    now_s: Callable[[], float] = time.time
    clock_s: Callable[[], float] = time.monotonic
    metrics: ApiMetrics = field(default_factory=ApiMetrics)
    passwords: Passwords = field(default_factory=Passwords)
    waiting: WaitingOptOuts = field(init=False)

    def __post_init__(self) -> None:
        """Tell of what waits among the metrics."""
        waiting = WaitingOptOuts(self.ledger, self.metrics.registry, self.now_s)
        object.__setattr__(self, "waiting", waiting)

    async def withdraw_from_bids(self) -> None:
        """
        See that what was just forbidden is shown by no bid any more.

        Raises:
            NotInForceYet: It is in the ledger, and a loader sees to it as soon as it can.
        """
        wait_s = self.options.opt_out_wait_s
        why = await withdraw_from_bids(self.ledger, self.redis, wait_s=wait_s)
        if why:
            raise NotInForceYet(why)

    async def publish_catalog(self) -> None:
        """Show the bid path what was just added; if the store is away, the loader will."""
        with suppress(RedisError, StoreUnusable, OSError):
            await publish_catalog(self.ledger, self.redis)
