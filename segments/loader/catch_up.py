"""
Keeps the store up to the ledger in a loop: opt-outs first, then the catalog.

While either is away, log and `reasons` say so, and the loop tries again. A server is checked at
first contact, and after a restart.
"""

import asyncio
import logging
from contextlib import suppress

from obstore.exceptions import BaseError
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.exc import SQLAlchemyError

from segments.ingest.tools import Tools
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.loader.metrics import Metrics
from segments.projection.catalog import catch_up
from segments.projection.causes import away_by
from segments.projection.in_force import let_catalog_be_in_force
from segments.projection.one_ledger import OtherLedger, taken_meta
from segments.runtime.pauses import wait_or_stop
from segments.store import job_marks
from segments.store.error_code import in_words, refusal_of
from segments.store.meta import prepare
from segments.store.reader import CAME_BACK_EMPTY, LedgerBehind, StoreUnusable
from segments.store.servers.at_work import begin_work
from segments.store.servers.masters import is_cluster, runs
from segments.upkeep.lost_jobs import begin_lost_again

_log = logging.getLogger(__name__)


class CatchUp:
    """One process's projection loop."""

    def __init__(self, tools: Tools, expected_ids: int, metrics: Metrics, every_s: float) -> None:
        """
        `expected_ids`: persons that a new store is laid out for; `every_s`: the pause between two
        rounds.
        """
        self._tools = tools
        self._expected_ids = expected_ids
        self._metrics = metrics
        self._every_s = every_s
        self._checked_runs: frozenset[bytes] = frozenset()
        self._noting: asyncio.Task[None] | None = None
        self.is_unfilled = False
        self._away = "not caught up with the ledger yet"

    def reasons(self) -> list[str]:
        """Return why no file can be loaded now, if so."""
        return [] if self._away == "" else [self._away]

    async def catch_up(self) -> None:
        """
        Bring the store up to the ledger once.

        Raises:
            segments.store.reader.StoreUnusable: We may not write to the store.
            redis.exceptions.RedisError: The store can't be reached.
        """
        await self._check_new_server()
        meta = await catch_up(self._tools.ledger, self._tools.redis, self._expected_ids)
        if meta.is_unfilled and not self.is_unfilled:
            _log.error("the store %s", CAME_BACK_EMPTY)
        self.is_unfilled = meta.is_unfilled
        self._metrics.store_came_back(empty=meta.is_unfilled)

    async def _note_in_force(self) -> None:
        """Tell waiters that the catalog is in force, without delay for opt-outs."""
        with suppress(RedisError, StoreUnusable, *LEDGER_FAILURES):  # the next round tries again
            await let_catalog_be_in_force(self._tools.ledger, self._tools.redis)

    async def run(self, is_ready: asyncio.Event, stopping: asyncio.Event) -> None:
        """
        Catch up now and after each pause, until told to stop.

        `is_ready`: set while the store is up to the ledger, and at the end.
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
                # The operator must see which ledger, or numbers.
                is_refused = isinstance(error, (OtherLedger, LedgerBehind))
                self._away = why if is_refused else f"waits for {_why_short(error)}"
                if away != was_away or (is_refused and why != was_why):
                    _log.warning("waiting for the %s: %s", away, why)
            else:
                is_ready.set()
                if self._noting is None or self._noting.done():
                    self._noting = begin_work(self._tools.redis, self._note_in_force())
                self._metrics.store_is(well=True)
                if away:
                    _log.info("the %s is back", away)
                away = self._away = ""
            await wait_or_stop(stopping, self._every_s)
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.wait({self._noting})
        is_ready.set()  # its waiters check `stopping` next

    async def _check_new_server(self) -> None:
        """
        Check a store at first contact, or after a restart.

        Only the run id shows a restart, which loses settings outside the server's configuration,
        and unpersisted writes. A server without job marks under the same run id was flushed.
        """
        redis = self._tools.redis
        found = await runs(redis)
        is_met = found.run_to_server.keys() == self._checked_runs
        if not is_met or await job_marks.since(redis) is None:
            await prepare(redis, self._expected_ids)
            # Before any of its marks is trusted.
            await taken_meta(self._tools.ledger, redis)
            if is_cluster(redis):
                await job_marks.meet(redis, found, self._tools.now_s())
            await begin_lost_again(self._tools.ledger, redis, self._tools.now_s())
            self._checked_runs = frozenset(found.run_to_server)


def _why_short(error: Exception) -> str:
    away = away_by(error)
    if isinstance(error, StoreUnusable):
        return f"the store ({in_one_line(error).removeprefix('the store ')})"
    if _which_is_away(error) == "store":
        refused = refusal_of(error)
        return f"the store ({refused.with_cure if refused else type(error).__name__})"
    return f"the ledger ({type(error).__name__})" if away is None else f"{away}"


def _which_is_away(error: Exception) -> str:
    return "store" if isinstance(error, (RedisError, StoreUnusable)) else "ledger"


def in_one_line(error: Exception) -> str:
    """
    Return an error's message without line breaks, or else its type.

    Of store and ledger, the kind alone: messages may quote data.
    """
    if isinstance(error, ResponseError):
        return in_words(error)
    away = away_by(error)
    if away is not None and isinstance(error, (OSError, BaseError)):
        return str(away)
    if isinstance(error, SQLAlchemyError):
        return f"the ledger refuses: {type(error).__name__}"
    return " ".join(str(error).split()) or type(error).__name__
