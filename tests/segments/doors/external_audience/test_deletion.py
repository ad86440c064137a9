"""What a deleted external audience leaves: as little as a CRM audience."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ingest.external_audience.deletion import delete_audience
from segments.ingest.tools import Tools
from segments.ledger import jobs
from segments.ledger.external_audience import audiences as external_audiences
from segments.ledger.tables.base import metadata
from segments.model.identity import id_of_email_hash
from segments.model.job import NO_FILE, Job, JobState
from segments.store import keys
from segments.upkeep.rebuild import rebuild
from segments.upkeep.scrub.scrubber import Scrubber
from segments.upkeep.sweep import sweep_daily
from tests.segments.doors.external_audience.external_world import BASE, External
from tests.segments.doors.rest.rest_world import hashes

NAMES = ("alice", "bob", "carol")
ADDRESSES = tuple(f"{name}@example.com" for name in NAMES)
IDS = tuple(id_of_email_hash(digest) for digest in hashes(*NAMES))


def table(*addresses: str) -> str:
    return "mail,list_id\n" + "".join(f"{address},7\n" for address in addresses)


async def test_deleted_audience_takes_no_run_and_ends_those_that_wait(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    await external.start(audience_id)

    deleted = await external.rest.ask("DELETE", f"{BASE}/{audience_id}")
    carried = await external.load_all()

    assert (deleted.status, carried) == (204, [])
    [job] = await all_jobs(external)
    assert (job.state, job.error, job.blob) == (JobState.FAILED, "audience_deleted", NO_FILE)
    assert await external.members(IDS) == [False] * 3


async def all_jobs(external: External) -> list[Job]:
    async with external.rest.services.ledger.connect() as conn:
        return list(await jobs.jobs(conn, 100))


async def test_deleted_audience_leaves_no_file_no_name_and_no_membership(
    external: External,
) -> None:
    """
    What is left are a number that never comes back, and times.
    """
    name, key = "Persons with the illness", {"Idempotency-Key": "once"}
    spec = {**external.spec, "name": name, "description": name, "customAudienceId": "their own"}
    created = await external.rest.ask("POST", BASE, spec, headers=key)
    operation = await external.operation(created.body["operationId"])
    audience_id = operation["audienceId"]
    external.put("illness.csv", table(*ADDRESSES))
    await external.run(audience_id)
    services = external.rest.services
    assert len(await services.blobs.names()) == 1

    deleted = await external.rest.ask("DELETE", f"{BASE}/{audience_id}")
    told = await external.rest.ask("GET", f"{BASE}/operations/{created.body['operationId']}")

    assert (deleted.status, told.status) == (204, 404)
    assert await services.blobs.names() == []
    assert await external.redis.get(keys.SWEPT) is None
    await sweep_daily(services.ledger, external.redis, services.blobs, services.now_s)
    assert await external.members(IDS) == [False] * 3
    dumped = await everything_in(services.ledger)
    for word in (name, "their own", "illness.csv"):
        assert word not in dumped
    tools = Tools(
        services.ledger, external.redis, services.blobs,
        external.rest.settings.spool_dir, external.rest.clock,
    )  # fmt: skip
    again = await rebuild(tools, external.rest.settings.expected_ids, settle_s=0)
    assert (again.rows, await external.members(IDS)) == (0, [False] * 3)


async def test_run_at_work_while_its_audience_is_deleted_leaves_nothing(external: External) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    started = await external.start(audience_id)
    services = external.rest.services
    loader = external.loader()
    await loader.catch_up()
    job = await loader.claim()
    assert job is not None
    assert started.status == 200

    deleted = await external.rest.ask("DELETE", f"{BASE}/{audience_id}")
    ended = await loader.run_one(job, asyncio.Event())

    assert deleted.status == 204
    assert (ended.blob, await services.blobs.names()) == (NO_FILE, [])


async def test_file_of_a_deletion_that_was_killed_is_deleted_by_the_next_scrub(
    external: External,
) -> None:
    audience_id = await external.create()
    external.put("a.csv", table(*ADDRESSES))
    await external.run(audience_id)
    services = external.rest.services
    async with services.ledger.begin() as conn:
        found = await external_audiences.by_id(conn, 1)
        await delete_audience(conn, found, user_id="jane", now_s=services.now_s())
    assert len(await services.blobs.names()) == 1

    scrubber = Scrubber(
        services.ledger, services.blobs, external.rest.settings.spool_dir, services.now_s
    )
    await scrubber.scrub(services.now_s())

    assert await services.blobs.names() == []


async def everything_in(ledger: AsyncEngine) -> str:
    """Return the rows of every table."""
    async with ledger.connect() as conn:
        return "\n".join(
            [
                repr(row)
                for each in metadata.sorted_tables
                for row in await conn.execute(each.select())
            ]
        )
