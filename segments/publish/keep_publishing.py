"""
Publishes until told to stop, through all outages.

A failure is logged once, and shown by `reasons` while it lasts; followers notice the age of
`LATEST`. A stop does not wait for a step: the next publisher goes on
(`segments.publish.publisher`).
"""

import asyncio
import logging
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.exceptions import RedisError

from segments.files.published_place import PlaceAway
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.model.refusal import Refusal
from segments.projection.causes import away_by
from segments.publish.fulls import NUMBERS_A_S
from segments.publish.publisher import Publisher
from segments.runtime.causes import of_os_error
from segments.runtime.pauses import wait_or_stop
from segments.store.error_code import in_words
from segments.store.reader import StoreUnusable

_log = logging.getLogger(__name__)

EVERY_S: Final = 1.0


class PublishMetrics:
    """Metrics of a publication."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._made_at_s = Gauge(
            "segments_published_timestamp_seconds",
            "Unix time as of which followers have been told that every opt-out is in.",
            registry=registry,
        )
        self._opt_outs = Gauge(
            "segments_published_opt_outs",
            "The ledger's number of the last opt-out that is published.",
            registry=registry,
        )
        self._increments = Gauge(
            "segments_published_increments",
            "Increments that LATEST names.",
            registry=registry,
        )
        self._number = Gauge(
            "segments_published_number",
            "Number of LATEST, which rises with each.",
            registry=registry,
        )
        self._full_at_s = Gauge(
            "segments_published_full_timestamp_seconds",
            "Unix time of the state from which a new follower begins.",
            registry=registry,
        )
        self._failures = Counter(
            "segments_publish_failures",
            "Looks that could publish nothing, though it was due, by the part that was away.",
            ["part"],
            registry=registry,
        )
        for part in Needed:
            self._failures.labels(part)

    def failed(self, part: "Needed") -> None:
        """Count a failure."""
        self._failures.labels(part).inc()

    def show(self, publisher: Publisher) -> None:
        """Update the metrics after a step."""
        latest = publisher.latest
        if latest is not None:
            self._made_at_s.set(latest.made_at_s)
            self._opt_outs.set(latest.opt_outs)
            self._increments.set(len(latest.increments))
            self._number.set(latest.number)
            self._full_at_s.set(latest.full.number / NUMBERS_A_S)


class KeepPublishing:
    """The publishing loop of a process."""

    def __init__(self, publisher: Publisher, metrics: PublishMetrics) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._why = "nothing is published yet"

    async def reasons(self) -> list[str]:
        """Return why nothing can be published now, if so."""
        return [self._why] if self._why else []

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish due files again and again."""
        stop = asyncio.create_task(stopping.wait())
        said = ""
        try:
            while not stopping.is_set():
                step = asyncio.create_task(self._step())
                await asyncio.wait((step, stop), return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    step.cancel()
                    await asyncio.wait((step,))
                    return
                self._why = step.result()
                if self._why != said:
                    said = self._why
                    if said:
                        _log.warning("nothing is published: %s", said)
                    else:
                        _log.info("publishing")
                self._metrics.show(self._publisher)
                await wait_or_stop(stopping, EVERY_S)
        finally:
            stop.cancel()
            await self._publisher.stop()

    async def _step(self) -> str:
        """Take a step, and return why it could not be taken, if so."""
        try:
            await self._publisher.step()
        except (RedisError, StoreUnusable, PlaceAway, Refusal, *LEDGER_FAILURES) as error:
            part, why = _told(error)
            self._metrics.failed(part)
            return why
        return ""


class Needed(StrEnum):
    """A part that publishing needs."""

    STORE = "store"
    LEDGER = "ledger"
    PLACE = "place"
    DISK = "disk"


def _told(error: Exception) -> tuple[Needed, str]:
    if isinstance(error, RedisError):
        return Needed.STORE, in_words(error)
    if isinstance(error, PlaceAway):
        return Needed.PLACE, f"the place that is published to is away: {error}"
    if isinstance(error, StoreUnusable):
        return Needed.STORE, str(error)
    if isinstance(error, Refusal):
        return Needed.LEDGER, str(error)
    if isinstance(error, OSError):
        return Needed.DISK, of_os_error(error).of("the storage")
    away = away_by(error) or f"the ledger refuses: {type(error).__name__}"
    return Needed.LEDGER, str(away)
