"""
A share of the disk is for ledger and store alone: whatever else is taken in waits at its door.
"""

import asyncio
import os
from collections.abc import AsyncIterator

import numpy as np
import pytest

from segments.files.blobs import Blobs
from segments.files.disk import MOST_RESERVED_BYTES, Disk
from segments.ingest.spool import Spool
from segments.model.job import JobState
from segments.projection.causes import away_by
from segments.runtime.causes import RESERVED, NoRoom
from tests.kept_files import kept_files
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of
from tests.segments.ill.conftest import RESERVE_BYTES, SIZE_BYTES
from tests.small_disk import MIB, SmallDisk

FILE = text_of(hashes(*(f"person-{n}" for n in range(1000))))


async def pieces(size_bytes: int) -> AsyncIterator[bytes]:
    for _ in range(size_bytes // MIB):
        yield bytes(MIB)


def files_in(disk: SmallDisk) -> list[str]:
    return [path.name for path in kept_files(disk.path)]


def test_reserve_is_a_share_of_a_small_disk_and_a_gibibyte_of_a_large_one(disk: SmallDisk) -> None:
    small = Disk(disk.path)

    assert small.left_bytes() == pytest.approx(disk.free_bytes() - 0.05 * SIZE_BYTES, abs=1)
    assert MOST_RESERVED_BYTES == 1 << 30


def test_no_reserve_leaves_the_whole_disk(disk: SmallDisk) -> None:
    assert Disk(disk.path, 0).left_bytes() == disk.free_bytes()


async def test_file_is_refused_before_it_takes_of_the_reserve(disk: SmallDisk) -> None:
    blobs = Blobs.in_directory(disk.path / "blobs", RESERVE_BYTES)
    disk.fill(but_bytes=RESERVE_BYTES + 8 * MIB)

    with pytest.raises(NoRoom):
        await blobs.put("large", pieces(40 * MIB))

    assert disk.free_bytes() > RESERVE_BYTES - 4 * 5 * MIB  # what was on its way
    assert files_in(disk) == ["ballast"]
    async with asyncio.timeout(10):
        while disk.free_bytes() < RESERVE_BYTES + 7 * MIB:  # noqa: ASYNC110 - a thread closes it
            await asyncio.sleep(0.01)
    await blobs.put("small", pieces(MIB))


async def test_upload_that_says_how_large_it_is_is_refused_before_its_first_byte(
    world: RestDoors, disk: SmallDisk
) -> None:
    disk.fill(but_bytes=RESERVE_BYTES + MIB)
    _, url = await world.presign()
    asked: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        asked.append(1)
        yield bytes(2 * MIB)

    refused = await world.rest.ask(
        "PUT", url, data=body(), headers={"Content-Length": str(2 * MIB), "Expect": "100-continue"}
    )

    assert (refused.status, refused.headers["Retry-After"]) == (507, "2")
    assert RESERVED.words in refused.body["detail"]
    assert asked == []


async def test_upload_is_refused_while_the_disk_is_in_its_reserve_and_taken_afterwards(
    world: RestDoors, disk: SmallDisk
) -> None:
    disk.fill(but_bytes=RESERVE_BYTES - MIB)
    _, url = await world.presign()

    async def body() -> AsyncIterator[bytes]:
        yield FILE

    refused = await world.rest.ask("PUT", url, data=body())
    at_once = await world.rest.ask(
        "POST",
        "/realtime/audience/123?type=sha2&action=add",
        data=FILE,
        headers={"Content-Type": "text/plain"},
    )
    kept = await world.jobs()
    disk.make_room()
    taken = await world.rest.ask("PUT", url, data=body())

    assert (refused.status, at_once.status, kept) == (507, 507, [])
    assert taken.status == 200
    assert [job.state for job in await world.load_all()] == [JobState.DONE]


async def test_job_waits_while_there_is_no_room_for_its_ids_and_ends_well(
    world: RestDoors, disk: SmallDisk
) -> None:
    _, url = await world.presign()
    assert (await world.rest.ask("PUT", url, data=FILE)).status == 200
    disk.fill(but_bytes=RESERVE_BYTES - MIB)
    loader = world.loader
    await loader.catch_up()
    job = await loader.claim()
    assert job is not None

    with pytest.raises(NoRoom) as caught:
        await loader.run_one(job, asyncio.Event())
    waiting = await world.states()
    disk.make_room()

    assert str(away_by(caught.value)).endswith("or lower SEGMENTS_RESERVE_BYTES")
    assert waiting == [JobState.QUEUED]
    assert [job.state for job in await world.load_all()] == [JobState.DONE]


def test_spool_grows_into_no_reserve(disk: SmallDisk) -> None:
    """
    Twelve mebibytes of ids into room for eleven, in blocks of one.
    """
    ids = np.frombuffer(os.urandom(12 * MIB), np.uint8).reshape(-1, 16)
    disk.fill(but_bytes=RESERVE_BYTES + 11 * MIB)

    with Spool(disk.path, MIB // 16, reserve_bytes=RESERVE_BYTES) as spool, pytest.raises(NoRoom):
        spool.add(ids)

    assert disk.free_bytes() >= RESERVE_BYTES
