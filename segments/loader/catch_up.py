"""
The store is kept up to the ledger: opt-outs first, then the catalog, again and again.

When either is away, nothing fails: it is said once, in a line of the log and for as
long as it lasts to whoever asks for `reasons`, and tried again after a pause. A server
that is met for the first time, or again after its restart, is checked before anything
else is told to it.
"""

import asyncio
import logging
from contextlib import suppress

from redis.exceptions import RedisError, ResponseError
from sqlalchemy.exc import SQLAlchemyError

from segments.ingest.tools import Tools
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.loader.metrics import Metrics
from segments.projection.catalog import catch_up
from segments.projection.in_force import let_catalog_be_in_force
from segments.projection.one_ledger import OtherLedger, taken_meta
from segments.runtime.pauses import wait_or_stop
from segments.store import job_marks
from segments.store.error_code import in_words
from segments.store.meta import prepare
from segments.store.reader import LedgerBehind, StoreUnusable
from segments.store.servers.masters import is_cluster, runs
from segments.upkeep.lost_jobs import begin_lost_again

_log = logging.getLogger(__name__)


class CatchUp:
    """One process's part in it."""

    def __init__(self, tools: Tools, expected_ids: int, metrics: Metrics, every_s: float) -> None:
        """
        Args:
            tools: Ledger, store and time.
            expected_ids: How many persons the store is laid out for, if it is new.
            metrics: Where it is counted.
            every_s: The pause.
        """
        self._tools = tools
        self._expected_ids = expected_ids
        self._metrics = metrics
        self._every_s = every_s
        self._checked_runs: frozenset[bytes] = frozenset()
        self._noting: asyncio.Task[None] | None = None
        self._away = "not caught up with the ledger yet"

    def reasons(self) -> list[str]:
        """Tell why no file can be loaded now, if none can."""
        return [] if self._away == "" else [self._away]

    async def catch_up(self) -> None:
        """
        Bring the store up to the ledger once.

        Raises:
            segments.store.reader.StoreUnusable: The store is not ours to write.
            redis.exceptions.RedisError: It can't be reached.
        """
        await self._check_new_server()
        await catch_up(self._tools.ledger, self._tools.redis, self._expected_ids)

    async def _note_in_force(self) -> None:
        """See that whoever waits for the catalog hears of it; opt-outs do not wait for that."""
        with suppress(RedisError, StoreUnusable, *LEDGER_FAILURES):  # the next look tries again
            await let_catalog_be_in_force(self._tools.ledger, self._tools.redis)

    async def run(self, is_ready: asyncio.Event, stopping: asyncio.Event) -> None:
        """
        Catch up, and again after each pause, until told to stop.

        Args:
            is_ready: Set while the store is up to the ledger, and in the end.
            stopping: Set by whoever wants it to stop.
        """
        away = why = ""
        while not stopping.is_set():
            try:
                await self.catch_up()
            except (RedisError, StoreUnusable, *LEDGER_FAILURES) as error:
                is_ready.clear()
                self._metrics.store_is(well=False)
                was_away, away = away, _which_is_away(error)
                why, was_why = in_one_line(error), why
                # Of another ledger, or numbers: whoever looks must see which.
                is_refused = isinstance(error, (OtherLedger, LedgerBehind))
                self._away = why if is_refused else f"waits for the {away} ({type(error).__name__})"
                if away != was_away or (is_refused and why != was_why):
                    _log.warning("waiting for the %s: %s", away, why)
            else:
                is_ready.set()
                if self._noting is None or self._noting.done():
                    self._noting = asyncio.create_task(self._note_in_force())
                self._metrics.store_is(well=True)
                if away:
                    _log.info("the %s is back", away)
                away = self._away = ""
            await wait_or_stop(stopping, self._every_s)
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.wait({self._noting})
        is_ready.set()  # whoever waits for it looks at `stopping` next

    async def _check_new_server(self) -> None:
        """
        Check a store that we meet for the first time, or again after its restart.

        A restart is seen by the server's own name of its run: our client
        connects anew by itself and tells nobody. What was set on a server and
        not in its configuration is gone then, and what it had not written down, too.
        """
        redis = self._tools.redis
        found = await runs(redis)
        if found.run_to_server.keys() != self._checked_runs:
            await prepare(redis, self._expected_ids)
            # Before anything is believed of the marks in it.
            await taken_meta(self._tools.ledger, redis)
            if is_cluster(redis):
                await job_marks.meet(redis, found, self._tools.now_s())
            await begin_lost_again(self._tools.ledger, redis, self._tools.now_s())
            self._checked_runs = frozenset(found.run_to_server)


def _which_is_away(error: Exception) -> str:
    return "store" if isinstance(error, (RedisError, StoreUnusable)) else "ledger"


def in_one_line(error: Exception) -> str:
    """
    Return what an error says without its line breaks; its type if it says nothing.

    Of a store or a ledger that refuses, the kind alone: its words may quote what it was sent.
    """
    if isinstance(error, ResponseError):
        return in_words(error)
    if isinstance(error, SQLAlchemyError):
        return f"the ledger refuses: {type(error).__name__}"
    return " ".join(str(error).split()) or type(error).__name__
