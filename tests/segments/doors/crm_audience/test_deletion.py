"""A deleted CRM audience is gone from every store, and stays away."""

import asyncio

from sqlalchemy import text

from segments.ledger import jobs
from segments.model.identity import id_of_email_hash
from segments.model.job import Job, JobState
from segments.model.order import FIRST_GIVEN_ID
from segments.settings import Settings
from segments.store import keys
from segments.store.reader import read_meta
from segments.store.writer import Writer
from segments.upkeep.sweep import sweep_store
from tests.kept_files import kept_files
from tests.segments.doors.crm_audience.crm_world import (
    ALICE,
    CAROL,
    FILE,
    Crm,
    crm,
    rebuild_from,
    records_of,
    shown_to,
    world,
)
from tests.segments.doors.rest.rest_world import text_of

__all__ = ["crm", "world"]  # fixtures


async def _deleted(crm: Crm, audience_id: int) -> None:
    assert await crm.data("DELETE", f"/audience/delete?audienceId={audience_id}") is True


async def _sweep(crm: Crm) -> None:
    redis, services = crm.world.redis, crm.world.rest.services
    writer = Writer(redis, await read_meta(redis))
    await sweep_store(services.ledger, redis, writer, services.now_s())


async def _jobs(crm: Crm) -> list[Job]:
    async with crm.world.rest.services.ledger.connect() as conn:
        return list(await jobs.jobs(conn, 100))


async def test_delete_is_told_which_by_query_or_body(crm: Crm) -> None:
    for query, member in [("?audienceId={}", ""), ("?id={}", ""), ("", "audienceId"), ("", "id")]:
        audience_id = await crm.audience()

        answer = await crm.data(
            "DELETE",
            f"/audience/delete{query.format(audience_id)}",
            {member: str(audience_id)} if member else None,
        )

        assert answer is True
        gone = await crm.ask("GET", f"/audience/loadAudienceById/{audience_id}")
        again = await crm.ask("DELETE", f"/audience/delete?id={audience_id}")
        # For an hour, so that a customer who was told "not yet" may ask again.
        assert (gone.status, again.status) == (404, 200)


async def test_deleted_audience_is_gone_from_every_store_and_stays_away(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience("A name that tells")
    await crm.data("POST", "/audience/update", {"id": audience_id, "description": "One that tells"})
    await crm.deliver(audience_id, FILE, records=4)
    await crm.deliver(audience_id, text_of([CAROL]), records=1)
    await crm.world.load_all()
    await crm.activate(audience_id)
    await crm.deliver(audience_id, FILE, records=4)  # to come

    await _deleted(crm, audience_id)

    assert audience_id - FIRST_GIVEN_ID not in await shown_to(crm.world, "dsp-a")
    assert not kept_files(settings.data_dir / "blobs")
    async with crm.world.rest.services.ledger.connect() as conn:
        for table in ("activations", "crm_uploads", "uploads"):
            assert (await conn.execute(text(f"select count(*) from {table}"))).scalar_one() == 0
        names = await conn.execute(
            text(f"select name from audiences where id = {audience_id - FIRST_GIVEN_ID}")
        )
        assert names.scalar_one() == ""
        said = await conn.execute(text("select description from crm_audiences"))
        assert said.scalars().all() == [None]
    assert [job.state for job in await _jobs(crm)] == [
        JobState.FAILED,
        JobState.DONE,
        JobState.DONE,
    ]
    assert await crm.world.load_all() == []
    await _sweep(crm)
    assert await records_of(crm) == {}
    await rebuild_from(crm)
    assert await records_of(crm) == {}


async def test_deletion_asks_for_a_sweep_before_the_day_is_over(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.world.redis.set(keys.SWEPT, 1)

    await _deleted(crm, audience_id)

    assert await crm.world.redis.get(keys.SWEPT) is None


async def test_file_that_others_need_too_is_kept_for_them(crm: Crm) -> None:
    audience_id = await crm.audience()
    segments = [("123", "add"), (str(audience_id), "add")]
    await crm.deliver(audience_id, text_of([ALICE]), records=1, segments=segments)
    await crm.world.load_all()

    await _deleted(crm, audience_id)
    await rebuild_from(crm)

    ids = [id_of_email_hash(ALICE)]
    assert await crm.members(FIRST_GIVEN_ID + crm.world.seeded.shoes.id, ids) == [True]
    assert await crm.members(audience_id, ids) == [False]


async def test_file_that_goes_on_coming_for_a_deleted_audience_makes_no_other(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience()
    await _deleted(crm, audience_id)
    await crm.deliver(audience_id, FILE, records=4)

    (job,) = await crm.world.load_all()

    assert job.stop is not None
    assert job.stop.value == "audience_deleted"
    assert not kept_files(settings.data_dir / "blobs")
    assert await records_of(crm) == {}


async def test_audience_deleted_while_its_file_is_at_work_leaves_nothing(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    loader = crm.world.loader
    await loader.catch_up()
    job = await loader.claim()
    assert job is not None

    deleting: list[bool] = []

    async def delete_once() -> None:
        await _deleted(crm, audience_id)

    def show(running: Job) -> None:
        if running.report.is_ids and not deleting:
            deleting.append(True)
            task.append(asyncio.ensure_future(delete_once()))

    task: list[asyncio.Future[None]] = []
    ended = await loader.run_one(job, asyncio.Event(), show)
    await task[0]

    again = [j for j in await _jobs(crm) if j.id == ended.id]
    assert [j.report.segments for j in again] == [()]
    assert not kept_files(settings.data_dir / "blobs")
