import logging
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import open_ledger
from segments.ledger.privacy import opt_outs
from segments.loader.metrics import Metrics
from segments.loader.opt_out_flood import FloodAlarm
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.settings import Settings
from segments.upkeep.opt_out_flood import FloodLimits
from tests.ledger_seed import NOW_S


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


class AlarmedLedger:
    """An alarm that looks at a ledger of its own."""

    def __init__(self, ledger: AsyncEngine) -> None:
        self.clock = Clock()
        self.ledger = ledger
        self.persons = 0
        self.metrics = Metrics()
        self.alarm = FloodAlarm(
            ledger, self.metrics.show_opt_outs, self.clock, limits=FloodLimits(10, 20)
        )

    async def opt_outs(self, count: int) -> None:
        numbers = range(self.persons, self.persons + count)
        self.persons += count
        persons = [[(IdentifierKind.EMAIL, Id(number.to_bytes(16)))] for number in numbers]
        async with self.ledger.begin() as conn:
            await opt_outs.record(conn, OptOutAction.RESTRICT, persons, now_s=self.clock())

    def metric(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"segments_opt_out_{name}")


@pytest.fixture
async def world(ledger_settings: Settings) -> AsyncIterator[AlarmedLedger]:
    async with open_ledger(ledger_settings.ledger_dsn) as ledger:
        yield AlarmedLedger(ledger)


async def test_few_opt_outs_are_no_flood_however_unusual(world: AlarmedLedger) -> None:
    await world.opt_outs(20)

    assert not await world.alarm.look()
    assert world.metric("ids_per_minute") == 20
    assert world.metric("flood") == 0


async def test_flood_is_told_and_over_when_it_is(
    world: AlarmedLedger, caplog: pytest.LogCaptureFixture
) -> None:
    await world.opt_outs(21)

    assert await world.alarm.look()
    assert world.metric("flood") == 1
    assert "opt-outs of 21 ids in a minute" in caplog.text

    world.clock.now_s += 61
    assert not await world.alarm.look()
    assert world.metric("flood") == 0


async def test_log_tells_it_at_most_once_a_minute(
    world: AlarmedLedger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(13):
        await world.opt_outs(21)
        await world.alarm.look()
        world.clock.now_s += 5

    assert len(caplog.records) == 2


async def test_what_is_usual_is_no_flood(world: AlarmedLedger) -> None:
    """
    4,320 ids of the day before are 3 a minute, and 30 of them are ten times that.
    """
    await world.opt_outs(4320)
    world.clock.now_s += 3600

    await world.opt_outs(30)
    assert not await world.alarm.look()
    assert world.metric("ids_per_minute_usual") == 3

    await world.opt_outs(1)
    assert await world.alarm.look()
