"""
Keeps a worker's catalog that of the store, within half a second of a change.

A message on `seg:1:changed` makes it look at once; it looks twice a second
besides, for pub/sub promises nothing. It compares versions for being the same,
not for which is greater: behind the address there may be another store by now.

It never ends of an error. What it knows how to take is complained of; any other is a
bug, is counted and logged as one, and the bids go on with the catalog that they have,
until that is too old for the worker to be ready. A worker that ended instead would
begin again without any, and meet the same error.

A catalog is swapped whole, and none is believed of a store without its meta.
Working it out takes a thread, so that a large one holds no bid up for longer
than the interpreter's switch interval.
"""

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError

from rtb.catalog import Catalog
from segments.store import keys
from segments.store.reader import StoreUnusable, read_catalog, read_meta, read_version

POLL_S = 0.5


async def follow(
    redis: Redis,
    *,
    hold_out: float,
    adopt: Callable[[Catalog], None],
    confirm: Callable[[], None],
    complain: Callable[[str], None],
    on_bug: Callable[[Exception], None],
) -> None:
    """
    Follow the store's catalog, for ever; ends only by being cancelled.

    Args:
        redis: A client of our own.
        hold_out: Of the unnamed recipient; see `Catalog`.
        adopt: Given each new catalog.
        confirm: Called whenever the store has just said that ours is its own.
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
                    if await read_version(redis) != version:
                        snapshot = await read_catalog(redis)
                        adopt(await asyncio.to_thread(Catalog.from_snapshot, snapshot, hold_out))
                        version = snapshot.version
                    confirm()
                    await changes.get_message(timeout=POLL_S)
        except StoreUnusable as unusable:
            complain(str(unusable))
        except (RedisError, RedisClusterException, OSError, ValueError) as error:
            # By its kind only: the text may hold an address.
            complain(f"the catalog can't be read: {type(error).__name__}")
        except Exception as bug:  # noqa: BLE001 - see the module
            on_bug(bug)
            complain(f"the catalog can't be followed, by a bug: {type(bug).__name__}")
        await asyncio.sleep(POLL_S)
