"""
The changes of persons during a soak: opt-outs and files, by the product's own code.

A wave is over when the store has its changes; no later request may be answered as before. While the
store is down or refuses writes, opt-outs wait in the ledger, unacknowledged, until a loader applies
them. Some waves are reserved for that (`begin_no`).
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from random import Random

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.delivery import deliver
from loadtest.population import Population
from loadtest.soak.shared import Shared, WaveState
from loadtest.soak.table import Change, Wave
from segments.files.blobs import Blobs
from segments.ledger import jobs
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.privacy.opt_outs import last_seq
from segments.model.job import JobState
from segments.model.record import OptOutAction
from segments.projection.causes import away_by
from segments.projection.in_force import Receipt
from segments.projection.opt_outs import record_opt_outs
from segments.store.reader import StoreUnusable, read_meta

_KEPT = 4
"""Waves of opt-outs reserved for a store that refuses writes; at most half."""

_BALLAST = 5_000
"""Additional persons in each file, in no request, as work for the store."""

_POLL_S = 0.1


class Refused(Exception):
    """A file was not loaded; the message has the reason."""


class Waves:
    """
    Runs the waves.

    Args:
        waves: In their order.
        population: As it was seeded.
        ledger: The service's.
        redis: The service's store.
        blobs: The service's files.
        shared: Takes the state of each wave, for the drivers.
    """

    def __init__(
        self,
        waves: Sequence[Wave],
        population: Population,
        ledger: AsyncEngine,
        redis: Redis,
        blobs: Blobs,
        shared: Shared,
    ) -> None:
        self.over = 0
        self.waited = 0
        """Opt-outs that the ledger had before the store."""
        self.refused = 0
        """Opt-outs and files that ledger or disk refused, and that were sent again."""

        self._waves = waves
        self._population = population
        self._ledger = ledger
        self._redis = redis
        self._blobs = blobs
        self._shared = shared
        self._rng = Random("ballast")
        nos = [number for number, wave in enumerate(waves) if wave.change is not Change.JOIN]
        self._kept = deque(nos[len(nos) - min(_KEPT, len(nos) // 2) :])

    async def run(self, every_s: float) -> None:
        """
        Run the waves in order.

        Raises:
            Refused: See there.
        """
        kept = set(self._kept)
        for number, wave in enumerate(self._waves):
            if number in kept:
                continue
            self.begin(number)
            await self._until_taken(wave)
            self.end(number)
            await asyncio.sleep(every_s)

    async def begin_no(self) -> tuple[int, Receipt] | None:
        """
        Begin a reserved wave of opt-outs; `None` if there is none left.

        Returns:
            Its number, to be `end`ed once it is in force, and the receipt.
        """
        if not self._kept:
            return None
        number = self._kept.popleft()
        self.begin(number)
        receipt = await self._say_no(self._waves[number])
        if not receipt.waits_because:
            self.end(number)  # acknowledged: in force
        return number, receipt

    def begin(self, number: int) -> None:
        """Mark a wave as passing."""
        self._shared.waves[number] = WaveState.PASSING

    def end(self, number: int) -> None:
        """Mark a wave as over."""
        self._shared.waves[number] = WaveState.OVER
        self.over += 1

    async def _until_taken(self, wave: Wave) -> None:
        """Repeat a wave while ledger or disk refuse it, as a sender would."""
        while True:
            try:
                if wave.change is Change.JOIN:
                    await self._load(wave.numbers)
                elif (await self._say_no(wave)).waits_because:
                    await self._until_applied()
                return
            except LEDGER_FAILURES as error:
                if away_by(error) is None:
                    raise
                self.refused += 1
            await asyncio.sleep(_POLL_S)

    async def _say_no(self, wave: Wave) -> Receipt:
        population = self._population
        persons = [[(population.kind_of(n), population.id_of(n))] for n in wave.numbers]
        receipt = await record_opt_outs(
            self._ledger, self._redis, OptOutAction[wave.change.name], persons, submitter="soak"
        )
        if receipt.waits_because:
            self.waited += len(wave.numbers)
        return receipt

    async def _until_applied(self) -> None:
        async with reading(self._ledger) as conn:
            wanted_seq = await last_seq(conn)
        while True:
            try:
                if (await read_meta(self._redis)).opt_outs >= wanted_seq:
                    return
            except (StoreUnusable, RedisError, OSError):
                pass  # still down
            await asyncio.sleep(_POLL_S)

    async def _load(self, numbers: Sequence[int]) -> None:
        population = self._population
        hash_ = population.hash_of(numbers[0])
        digits = {"md5": hashlib.md5, "sha1": hashlib.sha1, "sha2": hashlib.sha256}[hash_]
        hashes = [population.email_hash(n) for n in numbers]
        hashes += [digits(self._rng.randbytes(16)).hexdigest() for _ in range(_BALLAST)]
        for share in population.shares(population.cohort_of(numbers[0])):
            job = await deliver(self._ledger, self._blobs, hashes, share)
            while job.state in (JobState.QUEUED, JobState.RUNNING):
                await asyncio.sleep(_POLL_S)
                async with reading(self._ledger) as conn:
                    job = await jobs.job(conn, job.id) or job
            if job.state is not JobState.DONE:
                raise Refused(f"job {job.id} is {job.state}: {job.error}")
