"""
Compares the store's memberships with the ledger's, and detects a server that lost its part.

A lost part counts as a store that came back empty (`seg:1:meta`, `unfilled`). Its slots' opt-outs
are applied again before the next file; bids pass through, or are enriched from remaining records.
Readiness and `doctor` report the loss until a rebuild.

Until then the server looks lost each minute. A note on the server, lost if it is emptied again,
saves applying opt-outs each time, minutes for millions.
"""

import asyncio
import logging
import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from segments.ingest.tools import Tools
from segments.ledger import jobs
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.expected import ExpectedMemberships
from segments.loader.metrics import Metrics
from segments.model.record import day_of
from segments.projection.applied_opt_outs import reapply_opt_outs
from segments.runtime.pauses import wait_or_stop
from segments.store import keys
from segments.store.meta import mark_unfilled
from segments.store.reader import Meta, StoreUnusable, read_meta
from segments.store.sample import sample
from segments.store.servers.masters import Server, memory

_log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 60.0

_NOTED_FOR_S: Final = 3600
"""Of a note, which a loss of buckets alone leaves."""


class Fill:
    """Samples the store, shows the result, and treats a lost part."""

    def __init__(self, tools: Tools, metrics: Metrics, rng: random.Random | None = None) -> None:
        self._tools = tools
        self._metrics = metrics
        self._rng = rng or random.Random()  # noqa: S311 - a sample
        self._expected = ExpectedMemberships(tools.ledger)

    async def run(self, stopping: asyncio.Event) -> None:
        """Look every minute until stopped."""
        while not stopping.is_set():
            # The loop that catches up reports these.
            with suppress(RedisError, StoreUnusable, *LEDGER_FAILURES):
                await self.look()
            await wait_or_stop(stopping, LOOK_EVERY_S)

    async def look(self) -> None:
        """Sample the store once."""
        tools = self._tools
        now_s = tools.now_s()
        meta = await read_meta(tools.redis)
        held = await sample(tools.redis, meta, day_of(now_s), self._rng)
        expected = await self._expected.look(now_s)
        self._metrics.show_memberships(expected, held.memberships, held.ids)
        self._metrics.show_memory(*await memory(tools.redis))
        if not held.lost:
            return
        await self._opt_out_again(meta, held.lost)
        async with reading(tools.ledger) as conn:
            is_to_be_had = await jobs.any_carried(conn)
        if is_to_be_had and not meta.is_unfilled:
            _log.error("of the store's servers %d lost what they held", len(held.lost))
            await mark_unfilled(tools.redis)

    async def _opt_out_again(self, meta: Meta, lost: Iterable[Server]) -> None:
        due = [
            server
            for server in lost
            if not await server.execute(b"EXISTS", server.key(keys.REAPPLIED))
        ]
        slots = [each for server in due for each in server.slots]
        if slots:
            await reapply_opt_outs(self._tools.ledger, self._tools.redis, meta, slots)
        for server in due:
            await server.execute(b"SET", server.key(keys.REAPPLIED), 1, b"EX", _NOTED_FOR_S)
