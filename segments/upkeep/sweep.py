"""
Removes data that will not be shown again.

    expired memberships               the bid path ignores them; they cost memory
    those of deleted audiences        likewise; an audience's number never comes back
    blobs that no job names           an upload broke off between its file and its job
    remains of broken writes          their process was killed
    uploads without a request         in the bucket; a URL was used twice, or a key made up

A sweep changes no bid, so it may be killed anywhere and run at any time. It pauses after each round
trip for as long, so bids wait for a single one, one to two milliseconds.

Opt-outs are never swept, nor are failed jobs' files, whose written memberships a rebuild needs.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import DELIVERIES, UPLOADS, Blobs
from segments.ledger import audiences, jobs, uploads
from segments.ledger.database.engine import reading
from segments.model.audience import AudienceState
from segments.model.day import S_PER_DAY
from segments.model.record import day_of
from segments.store import keys
from segments.store.reader import read_meta
from segments.store.writer import Writer

_log = logging.getLogger(__name__)

ORPHANED_AFTER_S = float(S_PER_DAY)
"""Above any step between a blob and its job."""

ABANDONED_AFTER_S = 7.0 * S_PER_DAY
"""Of an upload without a write."""

_BUCKETS_AT_ONCE = 8
_SCANNED_AT_ONCE = 1000
_BLOBS_AT_ONCE = 1000


class Swept(NamedTuple):
    """The results of a sweep."""

    buckets: int = 0
    dropped: int = 0  # memberships
    unreadable: int = 0  # buckets with an unreadable record; unchanged


async def sweep_daily(
    ledger: AsyncEngine,
    redis: Redis,
    blobs: Blobs,
    now_s: Callable[[], float],
    show: Callable[[Swept], None] = lambda _: None,
    *,
    abandoned_after_s: float = ABANDONED_AFTER_S,
) -> tuple[Swept, int] | None:
    """
    Sweep everything, unless done today, or being done.

    `show` is called with the progress, and may end the sweep by an exception.

    Returns:
        The results and the number of deleted blobs; `None`: not due.

    Raises:
        segments.store.reader.StoreUnusable, redis.exceptions.RedisError: As `sweep_store`; the day
            counts as not swept.
    """
    meta = await read_meta(redis)
    today = day_of(now_s())
    # Check and set are a single command: of several loaders, one sweeps.
    if await redis.set(keys.SWEPT, today, get=True) == b"%d" % today:
        return None
    try:
        swept = await sweep_store(ledger, redis, Writer(redis, meta), now_s(), show)
        return swept, await sweep_blobs(ledger, blobs, now_s(), abandoned_after_s=abandoned_after_s)
    except BaseException:
        with suppress(RedisError):
            await redis.delete(keys.SWEPT)
        raise


async def sweep_store(
    ledger: AsyncEngine,
    redis: Redis,
    writer: Writer,
    now_s: float,
    show: Callable[[Swept], None] = lambda _: None,
    *,
    also: Collection[int] = (),
) -> Swept:
    """
    Drop expired memberships, and those of deleted audiences.

    `also` are audiences that the ledger lacks.

    Raises:
        segments.store.reader.StoreUnusable: The store can't be written in its present state.
        redis.exceptions.RedisError: The store can't be reached; sweep again.
    """
    async with reading(ledger) as conn:
        deleted = [
            a.id for a in await audiences.audiences(conn) if a.state is AudienceState.DELETED
        ]
    deleted += also
    swept = Swept()
    async for buckets in buckets_of(redis):
        began_s = time.monotonic()
        dropped, unreadable = await writer.sweep(buckets, day_of(now_s), deleted)
        for error in unreadable:
            _log.error("not swept: %s", error)
        swept = Swept(
            swept.buckets + len(buckets),
            swept.dropped + dropped,
            swept.unreadable + len(unreadable),
        )
        show(swept)
        await asyncio.sleep(time.monotonic() - began_s)
    return swept


async def sweep_blobs(
    ledger: AsyncEngine,
    blobs: Blobs,
    now_s: float,
    *,
    orphaned_after_s: float = ORPHANED_AFTER_S,
    abandoned_after_s: float = ABANDONED_AFTER_S,
) -> int:
    """
    Delete unreferenced files, and return their number.

    A file younger than `orphaned_after_s` may still await its reference. `abandoned_after_s` counts
    from the last write to an unfinished file, or to a file in the bucket without an upload.
    """
    abandoned_at_s = now_s - abandoned_after_s
    return (
        await _sweep_orphans(ledger, blobs, now_s - orphaned_after_s)
        + await blobs.delete_unfinished(abandoned_at_s)
        + await _sweep_uploads(ledger, blobs, abandoned_at_s)
    )


async def _sweep_uploads(ledger: AsyncEngine, blobs: Blobs, before_s: float) -> int:
    """
    Delete files in the bucket that no upload waits for.

    Files that an upload waits for belong to the REST doors, however late: the bucket has confirmed
    their receipt.
    """
    deleted = 0
    for name in await blobs.names_before(UPLOADS, before_s):
        async with reading(ledger) as conn:
            upload = await uploads.upload_of_key(conn, name.rpartition("/")[2])
        if upload is None or upload.job_id is not None:
            await blobs.delete(name)
            deleted += 1
    return deleted


async def _sweep_orphans(ledger: AsyncEngine, blobs: Blobs, before_s: float) -> int:
    found = await blobs.names_before(DELIVERIES, before_s)
    deleted = 0
    for at in range(0, len(found), _BLOBS_AT_ONCE):
        names = found[at : at + _BLOBS_AT_ONCE]
        async with reading(ledger) as conn:
            known = await jobs.known_blobs(conn, names)
        for name in set(names) - known:
            await blobs.delete(name)
            deleted += 1
    return deleted


async def buckets_of(redis: Redis) -> AsyncIterator[list[int]]:
    """Yield the numbers of all buckets, a few at a time; some of them twice."""
    buckets: list[int] = []
    async for name in redis.scan_iter(match=keys.BUCKET_PREFIX + b"*", count=_SCANNED_AT_ONCE):
        buckets.append(int(name.removeprefix(keys.BUCKET_PREFIX), 16))
        if len(buckets) == _BUCKETS_AT_ONCE:
            yield buckets
            buckets = []
    if buckets:
        yield buckets
