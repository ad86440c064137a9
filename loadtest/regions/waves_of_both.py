"""The changes of persons in two regions: made in the first, watched in the second."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.answers import Verdict
from loadtest.judge import Due, Judge, Phase, end_of
from loadtest.population import Population
from loadtest.regions.outcome import Outcome
from loadtest.servers import HOST
from loadtest.soak.shared import Shared, WaveState
from loadtest.soak.table import Change, Table
from loadtest.soak.waves import Waves
from segments.files.blobs import Blobs

AFTER_S = 1.0
"""For another question of a driver, and the application of a file's buckets."""

_FILE_WITHIN_S = 60.0
_ASK_EVERY_S = 0.05
_PIECE_BYTES = 1 << 16


class WavesOfBoth(Waves):
    """
    Waves of the first region, whose ends reach the second later.

    Args:
        table: The waves, and the requests by which they are seen.
        population: As it was seeded.
        ledger: The first region's.
        redis: Its store.
        blobs: Its files.
        shared: Takes the state of each wave, for each region's driver.
        second_port: The bid port of the second region.
        outcome: Takes the times.
    """

    def __init__(
        self,
        table: Table,
        population: Population,
        ledger: AsyncEngine,
        redis: Redis,
        blobs: Blobs,
        shared: Sequence[Shared],
        second_port: int,
        outcome: Outcome,
    ) -> None:
        first, self._second = shared
        super().__init__(table.waves, population, ledger, redis, blobs, first)
        self.obeyed_within_s = outcome.plan.no_within_s
        """The time after which no answer of the second region may ignore an opt-out."""

        self.seen_within_s = AFTER_S
        """The time after that until a change must be seen there."""

        self._table = table
        self._second_port = second_port
        self._outcome = outcome
        self._following: set[asyncio.Task[None]] = set()

    def begin(self, number: int) -> None:
        """Mark a wave as passing, in both regions."""
        super().begin(number)
        self._second.waves[number] = WaveState.PASSING

    def end(self, number: int) -> None:
        """Mark a wave as over in the first region, and in the second when due."""
        super().end(number)
        self._following.add(asyncio.create_task(self._follow(number, time.monotonic())))

    async def settled(self) -> None:
        """Wait until each wave is over in the second region."""
        await asyncio.gather(*self._following)

    async def _follow(self, number: int, acknowledged_at_s: float) -> None:
        is_no = self._table.waves[number].change is not Change.JOIN
        within_s = self.obeyed_within_s if is_no else _FILE_WITHIN_S
        left_s = acknowledged_at_s + within_s - time.monotonic()
        watch = asyncio.create_task(self._watch(number, acknowledged_at_s))
        if is_no:
            # The promise: no answer is wrong after this time.
            await asyncio.sleep(left_s)
        else:
            await asyncio.wait({watch}, timeout=left_s)
            await asyncio.sleep(AFTER_S)
        self._second.waves[number] = WaveState.OVER
        await asyncio.wait({watch}, timeout=self.seen_within_s)
        if not watch.done():
            watch.cancel()
            await asyncio.wait({watch})
            self._outcome.notes.append(f"wave {number} did not reach the second region in time")
        elif (took_s := watch.result()) is not None:
            self._outcome.took(
                took_s, is_no=is_no, is_cut_off=is_no and within_s > self._outcome.plan.no_within_s
            )

    async def _watch(self, number: int, acknowledged_at_s: float) -> float | None:
        """Return the seconds until the second region shows a wave, if seen."""
        due = next((due for due in self._table.dues if _shows(due, number)), None)
        if due is None:
            return None
        judge = Judge([due])
        while True:
            with suppress(OSError, EOFError):
                answer = await _answer(self._second_port, due.sent)
                if judge.judge(0, answer, Phase.AFTER).verdict is Verdict.RIGHT:
                    return time.monotonic() - acknowledged_at_s
            await asyncio.sleep(_ASK_EVERY_S)


def _shows(due: Due, number: int) -> bool:
    """Tell whether a request's answer tells before and after a wave apart."""
    return due.wave == number and due.expected[0] != due.expected[1]


async def _answer(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(sent)
        received = b""
        while not (whole := end_of(received)) or len(received) < whole:
            piece = await reader.read(_PIECE_BYTES)
            if not piece:
                raise EOFError
            received += piece
        return received
    finally:
        writer.close()
