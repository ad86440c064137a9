"""
Keeps a worker's catalog equal to the store's, and its lease.

A message on `seg:1:changed` triggers a poll, besides four a lease, since pub/sub guarantees no
delivery. Versions are compared for equality only: another store may be at the address.

Each poll that finds our version renews the lease, from when the poll was sent
(`segments.store.catalog_lease`). During the parsing of a new version the old lease is not renewed:
the new version may forbid more.

No error ends the follower: expected errors are reported, others are bugs, counted and logged. Bids
go on with the old catalog until its lease ends. A restarted worker would meet the same error
without a catalog.

A catalog is replaced whole, never from a store without meta or a published catalog: an empty
catalog would make every recipient unknown. A thread parses, so a large catalog delays bids by the
interpreter's switch interval at most.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
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
from segments.store.error_code import Refusal, in_words, refusal_of
from segments.store.reader import StoreUnusable, read_catalog, read_meta, read_version

LONGEST_POLL_S = 0.5
_UNTOLD = "the store announces no changes of the catalog to us, so we poll for them"
_NOT_YET = "no catalog is published yet: a loader does that within seconds"
_POLLS_A_LEASE = 4
_NONE = 0
"""The version of a store without a catalog yet."""

_DUE_BEFORE_S = REGISTERED_S - REGISTER_EVERY_S


class CatalogLease:
    """
    The lease of an answer about the catalog's version.

    Args:
        lease_ms: Wanted; beyond the default, only once registered.
        clock_s: For durations only; the clock of the bids.
    """

    def __init__(self, lease_ms: int, clock_s: Callable[[], float]) -> None:
        self.clock_s = clock_s
        self._lease_ms = lease_ms
        self._registration = Registration(REGISTERED_S)

    @property
    def poll_s(self) -> float:
        """The interval between polls."""
        return min(LONGEST_POLL_S, self._lease_ms / MS_PER_S / _POLLS_A_LEASE)

    async def register(self, redis: Redis) -> None:
        """Register a lease beyond the default; ignore a refusal by the store."""
        asked_at_s = self.clock_s()
        is_due = asked_at_s >= self._registration.until_s - _DUE_BEFORE_S
        if self._lease_ms > DEFAULT_LEASE_MS and is_due:
            command = register_command(self._lease_ms, keys.CATALOG_LEASE)
            with suppress(ResponseError):
                await redis.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py
                self._registration.confirm(asked_at_s, self.clock_s())

    def until_s(self, asked_at_s: float) -> float:
        """Return when the answer to a question sent at `asked_at_s` expires."""
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
    complain: Callable[[str, Refusal | None], None],
    on_bug: Callable[[Exception], None],
) -> None:
    """
    Follow the store's catalog until cancelled.

    Args:
        redis: The follower's own client.
        hold_out: Of the unnamed recipient; see `Catalog`.
        adopt: Called with each new catalog.
        confirm: Called at each confirmation of the version, with the catalog's end for new bids.
        lease: The lease of each confirmation.
        complain: Called after each poll with the trouble, "" if none, and the store's refusal, if
            any; no address, no person.
        on_bug: Called with an unexpected error, of any text.
    """
    version: int | None = None
    untold: RedisError | None = None  # why there are no messages of changes
    while True:
        try:
            # First: a Cluster client finds its nodes by a command, not by pub/sub.
            await read_meta(redis)
            async with redis.pubsub() as changes:
                if untold is None:
                    await changes.subscribe(keys.CHANGED)
                while True:
                    # Never read a foreign or unready store.
                    await read_meta(redis)
                    await lease.register(redis)
                    asked_at_s = lease.clock_s()
                    shown = await read_version(redis)
                    if shown not in (_NONE, version):
                        asked_at_s = lease.clock_s()
                        snapshot = await read_catalog(redis)
                        shown = snapshot.version
                        if shown != _NONE:
                            made = await asyncio.to_thread(
                                Catalog.from_snapshot, snapshot, hold_out
                            )
                            adopt(made)
                            version = shown
                    if shown != _NONE:
                        confirm(lease.until_s(asked_at_s))
                    if untold is not None:
                        complain(f"{_UNTOLD}: {in_words(untold)}", refusal_of(untold))
                        await asyncio.sleep(lease.poll_s)
                    else:
                        complain(_NOT_YET if shown == _NONE else "", None)
                        untold = await _until_told(changes, lease.poll_s)
        except StoreUnusable as unusable:
            complain(str(unusable), None)
        except (RedisError, RedisClusterException, OSError, ValueError) as error:
            # The text may hold an address.
            refusal = refusal_of(error)
            why = type(error).__name__ if refusal is None else in_words(error)
            complain(f"the catalog can't be read: {why}", refusal)
        except Exception as bug:  # noqa: BLE001 - see the module
            on_bug(bug)
            complain(f"the catalog can't be followed, by a bug: {type(bug).__name__}", None)
        await asyncio.sleep(lease.poll_s)


async def _until_told(changes: PubSub, within_s: float) -> ResponseError | None:
    """Wait for a message; return the error if the store denies the subscription."""
    try:
        await changes.get_message(timeout=within_s)
    except ResponseError as refused:
        return refused
    return None
