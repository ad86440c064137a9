"""
Explains a bid by the store, for the command line and the admin port.

It reads the store itself: no worker is asked, and no bid waits. The catalog is the store's, kept
between questions while its version stays.
"""

import asyncio
import time
from collections.abc import Callable

from redis.asyncio import Redis

from rtb.catalog import Catalog
from rtb.explain.explainer import Deadline, Explainer
from rtb.settings import RtbSettings
from segments.model.explained_bid import Asked, Explanation, trail_digest
from segments.store.reader import read_catalog, read_meta, read_packed, read_version


class UnknownRecipient(Exception):
    """The catalog has no active recipient of that name."""

    def __init__(self) -> None:
        super().__init__(
            "no active recipient has that name: `rtb-segments recipient list` has their names"
        )


class Explaining:
    """
    Explains bids over a store.

    Args:
        settings: The listener's.
        redis: A client of its store.
        wall_s: Unix time.
    """

    def __init__(
        self, settings: RtbSettings, redis: Redis, wall_s: Callable[[], float] = time.time
    ) -> None:
        deadline = Deadline(settings.tmax_share, settings.deadline_cap_ms)
        self._explainer = Explainer(settings.pipeline_options, deadline)
        self._hold_out = settings.hold_out
        self._redis = redis
        self._wall_s = wall_s
        self._catalog: Catalog | None = None

    async def __call__(self, asked: Asked) -> Explanation:
        """
        Explain a bid.

        Raises:
            UnknownRecipient: The recipient does not exist, or is switched off.
            rtb.explain.explainer.Contradiction: A bug of ours.
            redis.exceptions.RedisError, OSError: The store does not answer.
            segments.store.reader.StoreUnusable: The store can't be used in its state.
        """
        meta = await read_meta(self._redis)
        catalog = await self._current()
        recipient = catalog.recipient(asked.recipient)
        if recipient is None:
            raise UnknownRecipient
        half = self._explainer.ask(asked.request.encode(), recipient, catalog)
        found = await read_packed(self._redis, meta, half.ids) if half.ids else []
        now_s = self._wall_s() if asked.at_s is None else asked.at_s
        subjects: tuple[str, ...] = ()
        if asked.trail_key:
            key = bytes.fromhex(asked.trail_key)
            subjects = tuple(sorted(trail_digest(key, id_) for id_ in half.ids))
        return self._explainer.answer(half, found, now_s, asked.form, subjects)

    async def _current(self) -> Catalog:
        version = await read_version(self._redis)
        if self._catalog is None or self._catalog.version != version:
            snapshot = await read_catalog(self._redis)
            self._catalog = await asyncio.to_thread(Catalog.from_snapshot, snapshot, self._hold_out)
        return self._catalog
