"""Makes the files of a publication: reads buckets, spools the file, and puts it into the place."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from segments.files.published_place import PublishedPlace
from segments.model.catalog import CatalogSnapshot
from segments.publish.buckets import BucketReader, MissingOptOuts
from segments.publish.part import Scope
from segments.publish.spooled_file import SpooledFile, spooled
from segments.store.published.form import Header, PublishedOptOut
from segments.store.published.latest import PublishedFile, name_of

_OPT_OUTS_A_PART: Final = 100_000


class FileMaker:
    """Makes files, one or several at a time, by way of `spool_dir`."""

    def __init__(self, redis: Redis, place: PublishedPlace, spool_dir: Path) -> None:
        self._redis = redis
        self._place = place
        self._spool_dir = spool_dir
        self._scope: Scope | None = None
        self._reader = BucketReader(redis, None)

    def take(self, scope: Scope | None) -> None:
        """Filter by a scope from now on, but for files that are being made."""
        if scope != self._scope:
            self._scope, self._reader = scope, BucketReader(self._redis, scope)

    async def full(
        self,
        header: Header,
        missing: MissingOptOuts,
        catalog: CatalogSnapshot,
        check: Callable[[], Awaitable[None]],
        *,
        pauses: bool,
    ) -> PublishedFile:
        """
        Make a full.

        `check` is awaited after the last read, and raises if the file must not be published.
        `pauses` leaves the store to bids in between, at half the speed.
        """
        async with spooled(self._spool_dir, header) as file:
            every = range(1 << header.bucket_bits)
            async with aclosing(self._reader.read(every, missing, pauses=pauses)) as read:
                async for buckets in read:
                    await file.buckets([each for each in buckets if each.payload])
            await file.catalog(catalog)
            return await self._put(file, header, check)

    async def increment(
        self,
        header: Header,
        opt_outs: Sequence[PublishedOptOut],
        numbers: Sequence[int],
        missing: MissingOptOuts,
        catalog: CatalogSnapshot | None,
        check: Callable[[], Awaitable[None]],
    ) -> PublishedFile:
        """
        Make an increment; new opt-outs without effect on the scope are left out.

        Without a `catalog` followers have it; `check` is as of `full`.
        """
        async with spooled(self._spool_dir, header) as file:
            scope = self._scope
            new = [o for o in opt_outs if scope is None or scope.is_of(o.account_id)]
            for at in range(0, len(new), _OPT_OUTS_A_PART):
                await file.opt_outs(new[at : at + _OPT_OUTS_A_PART])
            async with aclosing(self._reader.read(numbers, missing)) as read:
                async for buckets in read:
                    await file.buckets(buckets)
            if catalog is not None:
                await file.catalog(catalog)
            return await self._put(file, header, check)

    async def _put(
        self, file: SpooledFile, header: Header, check: Callable[[], Awaitable[None]]
    ) -> PublishedFile:
        written = await file.end()
        await check()
        await self._place.put(name_of(header.kind, header.number), file.path)
        return PublishedFile.of(header.number, header.behind, written)
