"""Operations shows what `rtb-segments doctor` found a minute ago at most."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.console import checks as checks_module
from segments.console.checks import Checks, Look
from segments.model.role import Role
from segments.processes.deployment import deployment_of
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from segments.upkeep.doctor.findings import Finding, Grade
from tests.console import serving_console
from tests.engines import Engine
from tests.ledger_seed import Seeded

POOR = Finding(Grade.POOR, "buckets: 312 ids to a bucket, which is many")
BAD = Finding(Grade.BAD, "store: refuses to write")
APART = Finding(Grade.POOR, "jobs: held until an operator looks: job 1")
GOOD = Finding(Grade.GOOD, "ledger: opens")


async def test_findings_need_a_person_and_the_others_are_listed(
    settings: Settings, ledger: AsyncEngine, seeded: Seeded, valkey: Engine
) -> None:
    checks = Checks()
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with (
            serving_console(settings, ledger, redis, checks=checks) as console,
            console.staff_of(Role.OPERATOR) as ada,
        ):
            assert "as rtb-segments doctor" not in (await ada.see("/ops")).said
            checks.last = Look(console.clock(), [GOOD, POOR, APART, BAD])
            page = (await ada.see("/ops")).said
            assert "2 things need you" in page
            needs, _, listed = page.partition("Queue")
            assert needs.index("Bad Store: refuses to write") < needs.index("Look Buckets: 312")
            assert "Held until" not in needs
            assert "Good Ledger: opens" in listed
            checks.last = Look(console.clock(), [GOOD])
            assert "Nothing needs you" in (await ada.see("/ops")).said


async def test_look_is_the_doctors(settings: Settings) -> None:
    checks = Checks(deployment_of(settings), lambda: 7.0)

    look = await checks.look()

    assert (look.at_s, look.is_cut, checks.last) == (7.0, False, look)
    (finding,) = look.troubles
    assert finding.grade is Grade.BAD
    assert "ledger" in finding.what


async def test_look_that_the_ledger_fails_does_not_end_the_looks(
    settings: Settings, ledger: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The console's other tasks are of the same group, and would end with it.
    """
    async with ledger.begin() as conn:
        await conn.execute(text("DROP TABLE processes"))
    checks, stopping = Checks(deployment_of(settings)), asyncio.Event()

    with pytest.raises(SQLAlchemyError):
        await checks.look()

    async def stop(event: asyncio.Event, _: float) -> None:
        event.set()

    monkeypatch.setattr(checks_module, "wait_or_stop", stop)
    await checks.run(stopping)
    assert stopping.is_set()
