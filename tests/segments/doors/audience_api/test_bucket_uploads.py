"""Uploads by a bucket's own URLs, against moto's server, which speaks S3."""

import asyncio
from collections.abc import AsyncIterator

import boto3
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.audience_api import bucket_uploads
from segments.doors.rest.metrics import BUCKET_FILES
from segments.files.blobs import Blobs
from segments.model.identity import id_of_email_hash
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from segments.upkeep.sweep import ABANDONED_AFTER_S, sweep_blobs
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.rest import serving
from tests.s3 import become, policy, user_with
from tests.segments.doors.privacy.privacy_world import REQUESTS
from tests.segments.doors.privacy.privacy_world import PrivacyDoors as PrivacyWorld
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_of

ALICE, BOB = hashes("alice", "bob")
MAX_BYTES = 1 << 20
BUCKET = "audiences"


@pytest.fixture
async def world(
    s3: str,
    settings: Settings,
    ledger: AsyncEngine,
    valkey: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[RestDoors]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    await asyncio.to_thread(_empty, client)
    user = await asyncio.to_thread(user_with, s3, policy("service", BUCKET, "segments"))
    become(monkeypatch, user)
    in_s3 = settings.model_copy(update={"blob_url": f"s3://{BUCKET}/segments"})
    seeded = await seed(ledger)
    async with connect(valkey.url) as redis:
        await prepare(redis, in_s3.expected_ids)
        async with (
            serving(in_s3, ledger, redis, Blobs.open(in_s3.blobs_at)) as rest,
            world_of(rest, seeded) as world,
        ):
            yield world


async def names(world: RestDoors) -> list[str]:
    return await world.rest.services.blobs.names()


async def put(world: RestDoors, url: str, content: bytes) -> int:
    # Nobody's headers but the client's own: the URL is the permission.
    async with world.rest.session.put(url, data=content) as answer:
        return answer.status


async def test_file_in_the_bucket_is_noticed_and_loaded(world: RestDoors) -> None:
    request_id, url = await world.presign()
    waiting = await world.status(request_id)

    status = await put(world, url, text_of([ALICE, BOB]))
    noticed = await bucket_uploads.notice(world.rest.services, MAX_BYTES)
    queued = await world.status(request_id)
    await world.load_all()

    assert f"/{BUCKET}/segments/uploads/" in url
    assert "X-Amz-Signature=" in url
    assert (status, noticed) == (200, 1)
    assert (waiting["status"], queued["status"]) == ("waiting", "queued")
    assert (await world.status(request_id))["status"] == "done"
    assert await world.audiences_of(ALICE) == {world.seeded.shoes.id}


async def test_what_is_kept_of_a_file_in_the_bucket_is_its_ids_alone(world: RestDoors) -> None:
    _, url = await world.presign()
    await put(world, url, text_of([ALICE, "leaver@acme.example"]))
    await bucket_uploads.notice(world.rest.services, MAX_BYTES)

    await world.load_all()

    (kept,) = await names(world)
    blob = await asyncio.to_thread(world.rest.services.blobs.get, kept)
    assert await asyncio.to_thread(blob.read) == id_of_email_hash(ALICE)


async def test_second_file_under_the_same_url_is_deleted_unread(world: RestDoors) -> None:
    _, url = await world.presign()
    await world.presign()
    await put(world, url, text_of([ALICE]))
    await bucket_uploads.notice(world.rest.services, MAX_BYTES)

    await put(world, url, text_of([BOB]))
    noticed = await bucket_uploads.notice(world.rest.services, MAX_BYTES)
    await world.load_all()

    assert noticed == 0
    assert len(await world.jobs()) == 1
    assert await world.audiences_of(BOB) == set()
    assert [name for name in await names(world) if name.startswith("uploads/")] == []


async def test_replicas_that_notice_the_same_file_make_one_job(world: RestDoors) -> None:
    _, url = await world.presign()
    await put(world, url, text_of([ALICE]))

    noticed = await asyncio.gather(
        *(bucket_uploads.notice(world.rest.services, MAX_BYTES) for _ in range(3))
    )

    assert sum(noticed) == 1
    assert [job.blob for job in await world.jobs()] == await names(world)


async def test_replica_that_finds_the_file_gone_leaves_it_to_the_other(
    world: RestDoors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes between the look and the copy: what a pause of this process amounts to."""
    _, url = await world.presign()
    await put(world, url, text_of([ALICE]))
    blobs = world.rest.services.blobs
    copy = blobs.copy
    others: list[int] = []

    async def copy_behind_another(name: str, to: str) -> None:
        monkeypatch.setattr(blobs, "copy", copy)
        others.append(await bucket_uploads.notice(world.rest.services, MAX_BYTES))
        await copy(name, to)

    monkeypatch.setattr(blobs, "copy", copy_behind_another)

    noticed = await bucket_uploads.notice(world.rest.services, MAX_BYTES)

    assert (noticed, others) == (0, [1])
    assert [job.blob for job in await world.jobs()] == await names(world)


async def test_file_that_is_too_large_is_deleted(world: RestDoors) -> None:
    request_id, url = await world.presign()
    await put(world, url, text_of([ALICE]))

    noticed = await bucket_uploads.notice(world.rest.services, max_bytes=10)

    assert (noticed, await names(world)) == (0, [])
    assert (await world.status(request_id))["status"] == "waiting"


async def test_file_that_nobody_asked_for_is_left_alone(world: RestDoors) -> None:
    await world.presign()
    await world.rest.services.blobs.put("uploads/stranger", [b"x"])

    assert await bucket_uploads.notice(world.rest.services, MAX_BYTES) == 0
    assert await names(world) == ["uploads/stranger"]


async def test_file_that_came_while_no_process_ran_is_taken_however_late(world: RestDoors) -> None:
    """
    The bucket has answered 200: to its partner the file is delivered.
    """
    request_id, url = await world.presign()
    await put(world, url, text_of([ALICE]))
    world.rest.clock.ahead_s = world.rest.settings.upload_url_s + bucket_uploads.LATE_S + 1

    assert await bucket_uploads.notice(world.rest.services, MAX_BYTES) == 0
    assert await bucket_uploads.notice(world.rest.services, MAX_BYTES, look_anyway=True) == 1

    world.rest.clock.ahead_s = 0  # or the access token is over, too
    await world.load_all()
    assert (await world.status(request_id))["status"] == "done"


async def test_file_that_no_upload_waits_for_is_swept_when_it_is_old(world: RestDoors) -> None:
    services = world.rest.services
    _, url = await world.presign()
    await put(world, url, text_of([ALICE]))
    awaited = [name for name in await names(world) if name.startswith("uploads/")]
    await services.blobs.put("uploads/stranger", [b"x"])
    now_s = services.now_s()

    young = await sweep_blobs(services.ledger, services.blobs, now_s)
    old = await sweep_blobs(services.ledger, services.blobs, now_s + ABANDONED_AFTER_S + 60)

    assert (young, old) == (0, 1)
    assert await names(world) == awaited


async def test_what_becomes_of_files_in_the_bucket_is_counted(world: RestDoors) -> None:
    _, url = await world.presign()
    await put(world, url, text_of([ALICE]))
    await bucket_uploads.notice(world.rest.services, MAX_BYTES)
    await world.presign()
    await put(world, url, text_of([BOB]))
    await bucket_uploads.notice(world.rest.services, MAX_BYTES)

    registry = world.rest.services.metrics.registry
    assert [
        registry.get_sample_value("segments_bucket_files_total", {"result": result})
        for result in BUCKET_FILES
    ] == [1, 0, 1]


async def test_watch_notices_and_stops_when_told(world: RestDoors) -> None:
    stopping = asyncio.Event()
    _, url = await world.presign()
    await put(world, url, text_of([ALICE]))

    watching = asyncio.create_task(bucket_uploads.watch(world.rest.services, MAX_BYTES, stopping))
    async with asyncio.timeout(20):
        while not await world.jobs():  # noqa: ASYNC110 - another task's transaction
            await asyncio.sleep(0.01)
    stopping.set()
    await asyncio.wait_for(watching, 20)

    assert len(await world.jobs()) == 1


def _empty(client: object) -> None:
    assert hasattr(client, "list_objects_v2")
    client.create_bucket(Bucket=BUCKET)  # type: ignore[attr-defined]
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])  # type: ignore[attr-defined]


async def test_report_is_had_from_the_bucket_itself_until_it_is_withdrawn(world: RestDoors) -> None:
    """
    `/data-subject-report/...` leads to the bucket's own signed URL.
    """
    officers = PrivacyWorld(world.rest, world.seeded, world.redis)
    officer = await officers.bearer(is_internal=True)
    transaction_id = await officers.taken(officer, "ACCESS", ALICE)
    report = await officers.report(officer, transaction_id)
    told = await officer.ask("GET", f"{REQUESTS}/{transaction_id}")
    led = await officer.ask("GET", told.body["downloadUrl"], allow_redirects=False)

    await officers.taken(officer, "ERASURE", ALICE)
    after = await world.rest.ask("GET", led.headers["Location"])

    assert report["transactionId"] == transaction_id
    assert led.headers["Location"].split("?")[0].endswith(f"/reports/{transaction_id}.0.json")
    assert after.status == 404
