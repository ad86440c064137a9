"""
Keeps a worker's catalog that of the store, and says until when it is one to answer by.

A message on `seg:1:changed` makes it look at once; it looks four times a lease
besides, for pub/sub promises nothing. It compares versions for being the same,
not for which is greater: behind the address there may be another store by now.

Each look that finds our version renews the lease, from the moment at which it was sent
(`segments.store.catalog_lease`). While another version is there and is being worked out,
ours is not renewed: what it shows may be what the other forbids.

It never ends of an error. What it knows how to take is complained of; any other is a
bug, is counted and logged as one, and the bids go on with the catalog that they have,
for as long as its lease lasts. A worker that ended instead would begin again without
any, and meet the same error.

A catalog is swapped whole, and none is believed of a store without its meta.
Working it out takes a thread, so that a large one holds no bid up for longer
than the interpreter's switch interval.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from rtb.catalog import Catalog
from rtb.lookup.near_cache.lease import Registration
from segments.store import keys
from segments.store.cache_lease import (
    MS_PER_S,
    REGISTER_EVERY_S,
    REGISTERED_S,
    register_command,
)
from segments.store.catalog_lease import DEFAULT_LEASE_MS
from segments.store.reader import StoreUnusable, read_catalog, read_meta, read_version

LONGEST_POLL_S = 0.5
_POLLS_A_LEASE = 4
_DUE_BEFORE_S = REGISTERED_S - REGISTER_EVERY_S


class CatalogLease:
    """
    For how long an answer about the catalog's version stands.

    Args:
        lease_ms: Wanted; where it is longer than the default, it is good once the
            store knows of it.
        clock_s: Durations only; what bids go by.
    """

    def __init__(self, lease_ms: int, clock_s: Callable[[], float]) -> None:
        self.clock_s = clock_s
        self._lease_ms = lease_ms
        self._registration = Registration(REGISTERED_S)

    @property
    def poll_s(self) -> float:
        """How often to look."""
        return min(LONGEST_POLL_S, self._lease_ms / MS_PER_S / _POLLS_A_LEASE)

    async def register(self, redis: Redis) -> None:
        """Have writers wait for it, where they would not anyway; tell nobody if that can't be."""
        asked_at_s = self.clock_s()
        is_due = asked_at_s >= self._registration.until_s - _DUE_BEFORE_S
        if self._lease_ms > DEFAULT_LEASE_MS and is_due:
            command = register_command(self._lease_ms, keys.CATALOG_LEASE)
            with suppress(ResponseError):
                await redis.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py
                self._registration.confirm(asked_at_s, self.clock_s())

    def until_s(self, asked_at_s: float) -> float:
        """Return until when the answer to a question stands, by when it was sent."""
        registration = self._registration
        default_s = asked_at_s + min(self._lease_ms, DEFAULT_LEASE_MS) / MS_PER_S
        if not registration.at_s < asked_at_s:
            return default_s
        wanted_s = asked_at_s + self._lease_ms / MS_PER_S
        return max(default_s, min(wanted_s, registration.until_s))


async def follow(
    redis: Redis,
    *,
    hold_out: float,
    adopt: Callable[[Catalog], None],
    confirm: Callable[[float], None],
    lease: CatalogLease,
    complain: Callable[[str], None],
    on_bug: Callable[[Exception], None],
) -> None:
    """
    Follow the store's catalog, for ever; ends only by being cancelled.

    Args:
        redis: A client of our own.
        hold_out: Of the unnamed recipient; see `Catalog`.
        adopt: Given each new catalog.
        confirm: Told until when a bid may begin that is answered by it, whenever the
            store has just said that it is its own.
        lease: On which that is.
        complain: Told why the catalog can't be followed now. The text names no
            address and no person.
        on_bug: Given an error that nobody foresaw. Its text may name anything.
    """
    version: int | None = None
    while True:
        try:
            # First of all: the client of a Cluster finds its nodes by a command, not by pub/sub.
            await read_meta(redis)
            async with redis.pubsub() as changes:
                await changes.subscribe(keys.CHANGED)
                while True:
                    # A store that is not ours, or not yet, is not read.
                    await read_meta(redis)
                    await lease.register(redis)
                    asked_at_s = lease.clock_s()
                    if await read_version(redis) != version:
                        asked_at_s = lease.clock_s()
                        snapshot = await read_catalog(redis)
                        adopt(await asyncio.to_thread(Catalog.from_snapshot, snapshot, hold_out))
                        version = snapshot.version
                    confirm(lease.until_s(asked_at_s))
                    await changes.get_message(timeout=lease.poll_s)
        except StoreUnusable as unusable:
            complain(str(unusable))
        except (RedisError, RedisClusterException, OSError, ValueError) as error:
            # By its kind only: the text may hold an address.
            complain(f"the catalog can't be read: {type(error).__name__}")
        except Exception as bug:  # noqa: BLE001 - see the module
            on_bug(bug)
            complain(f"the catalog can't be followed, by a bug: {type(bug).__name__}")
        await asyncio.sleep(lease.poll_s)
