"""A loader that dies between any two steps: nothing is lost, and nothing is kept too long."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ingest.ids_only import AT_MOST_S
from segments.ingest.run import wait_as_ids
from segments.ledger import job_leases
from segments.loader.loader import Loader
from segments.loader.long_waits import look_once
from segments.model.job import NO_FILE, Job, JobState
from segments.model.stop_reason import StopReason
from segments.settings import Settings
from segments.upkeep.originals import see_to_originals
from segments.upkeep.scrub.scrubber import STRAY_AFTER_S
from tests.engines import Engine
from tests.segments.ingest.deliveries import text_of
from tests.segments.ingest.killing import Fuse, Killed, MortalBlobs
from tests.segments.upkeep.scrub.scrub_world import PEOPLE, KeptFiles, begun

DAY_S = 86_400.0
MISTAKE = b"leaver@acme.example"
FILE = MISTAKE + b"\n" + text_of(PEOPLE)
MOST_STEPS = 60


class Mortal:
    """Files, and a loader that dies when its fuse has burnt down."""

    def __init__(self, world: KeptFiles) -> None:
        self.world = world
        self.fuse = Fuse()
        self.blobs = MortalBlobs.in_directory(world.folder)
        self.blobs.fuse = self.fuse

    def loader(self) -> Loader:
        world = self.world
        options = world.settings.loader_options
        return Loader(options, world.ledger, world.redis, self.blobs, now_s=world.now_s)

    async def carry_all(self) -> None:
        loader = self.loader()
        while (job := await loader.claim()) is not None:
            await loader.run_one(job, asyncio.Event())

    async def keep_house(self) -> None:
        """Do what a loader does within the hour."""
        tools = dataclasses.replace(self.world.tools, blobs=self.blobs)
        await see_to_originals(tools, DAY_S)

    async def look_at_waiting(self) -> None:
        tools = dataclasses.replace(self.world.tools, blobs=self.blobs)
        carry = partial(self.loader().run_one, carry=wait_as_ids)
        await look_once(tools, carry, asyncio.Event())

    async def dies(self, steps: int, work: Callable[[], Awaitable[None]]) -> bool:
        """Work for so many steps; tell whether that was not enough."""
        with self.fuse.of_ledger(self.world.ledger):
            self.fuse.steps_left = steps
            try:
                await work()
            except Killed:
                return True
        return False

    def outlive_the_lease(self) -> None:
        self.world.ahead_s += job_leases.LEASE_S + 1

    async def outlive_strays(self) -> None:
        """Let the hourly look of the scrubber pass, and what it deletes be an hour old."""
        await self.world.scrub()
        self.world.ahead_s += STRAY_AFTER_S + 1
        await self.world.scrubber.delete_strays()


@pytest.fixture
async def mortal(settings: Settings, ledger: AsyncEngine, engine: Engine) -> AsyncIterator[Mortal]:
    async with begun(settings, ledger, engine) as world:
        yield Mortal(world)


async def assert_only_ids_are_kept(mortal: Mortal, jobs: list[Job]) -> None:
    world = mortal.world
    now = [await world.job(job) for job in jobs]
    names = await world.blobs.names()
    assert sorted(job.blob for job in now if job.blob != NO_FILE) == names
    assert all(job.report.is_ids for job in now if job.blob != NO_FILE)
    assert not any(MISTAKE in content for content in world.contents())


async def test_job_killed_between_any_two_steps_keeps_its_ids_and_nothing_else(
    mortal: Mortal,
) -> None:
    world, jobs = mortal.world, []
    for steps in range(MOST_STEPS):
        jobs.append(await world.deliver(FILE, records=31, segment=str(steps)))
        is_dead = await mortal.dies(steps, mortal.carry_all)
        mortal.outlive_the_lease()
        await mortal.carry_all()
        if not is_dead:
            break

    await mortal.outlive_strays()
    ended = [await world.job(job) for job in jobs]
    lost = await world.dump()

    assert 8 < len(jobs) < MOST_STEPS
    assert {(job.state, job.report.rows, job.report.bad) for job in ended} == {
        (JobState.DONE, 31, 1)
    }
    await assert_only_ids_are_kept(mortal, jobs)
    assert await world.rebuilt() == lost


async def test_refused_file_is_gone_wherever_its_loader_is_killed(mortal: Mortal) -> None:
    world, jobs = mortal.world, []
    for steps in range(MOST_STEPS):
        jobs.append(await world.deliver(MISTAKE + b"\n", records=1, segment=str(steps)))
        is_dead = await mortal.dies(steps, mortal.carry_all)
        mortal.outlive_the_lease()
        await mortal.carry_all()
        if not is_dead:
            break

    await mortal.keep_house()
    await mortal.outlive_strays()

    assert 4 < len(jobs) < MOST_STEPS
    assert {(await world.job(job)).stop for job in jobs} == {StopReason.NO_VALID_RECORD}
    assert world.contents() == []


async def test_old_files_become_ids_wherever_the_look_at_them_is_killed(mortal: Mortal) -> None:
    """
    What a version before kept as it came: each look goes on where the last one was killed.
    """
    world = mortal.world
    jobs = [await world.loaded(FILE, records=31, segment=str(number)) for number in range(4)]
    lost = await world.dump()
    deaths = 0
    while await mortal.dies(1 + deaths % 3, mortal.keep_house):
        deaths += 1

    await mortal.outlive_strays()

    assert deaths >= 4
    await assert_only_ids_are_kept(mortal, jobs)
    assert await world.rebuilt() == lost


async def test_file_that_waits_becomes_ids_wherever_the_look_is_killed(mortal: Mortal) -> None:
    world, jobs = mortal.world, []
    for steps in range(MOST_STEPS):
        # Nobody carries it: no loader has met the store yet.
        jobs.append(await world.deliver(FILE, records=31, segment=str(steps)))
        world.ahead_s += AT_MOST_S
        is_dead = await mortal.dies(steps, mortal.look_at_waiting)
        mortal.outlive_the_lease()
        await mortal.look_at_waiting()
        if not is_dead:
            break

    await mortal.outlive_strays()
    await assert_only_ids_are_kept(mortal, jobs)
    await mortal.carry_all()

    assert 4 < len(jobs) < MOST_STEPS
    assert {(await world.job(job)).report.added for job in jobs} == {30}
