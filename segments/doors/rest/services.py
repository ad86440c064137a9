"""Shared services of the REST doors; made once, by the composition root."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web
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
from segments.runtime.addresses import source_of
from segments.store.reader import StoreUnusable


@dataclass(frozen=True)
class Services:
    """The stores, the common options and the clocks."""

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
        waiting = WaitingOptOuts(self.ledger, self.metrics.registry, self.now_s)
        object.__setattr__(self, "waiting", waiting)

    def source_of(self, request: web.Request) -> str:
        """Return the source under which a request's failures are counted."""
        forwarded = request.headers.getall("X-Forwarded-For", [])
        return source_of(self.options.proxies.client_of(request.remote or "", forwarded))

    async def withdraw_from_bids(self) -> None:
        """
        Wait until no bid can show anything just forbidden.

        Raises:
            NotInForceYet: The change is in the ledger; a loader will apply it.
        """
        wait_s = self.options.opt_out_wait_s
        why = await withdraw_from_bids(self.ledger, self.redis, wait_s=wait_s)
        if why:
            raise NotInForceYet(why)

    async def publish_catalog(self) -> None:
        """Publish additions to the bid path; if the store is away, the loader will."""
        with suppress(RedisError, StoreUnusable, OSError):
            await publish_catalog(self.ledger, self.redis)
