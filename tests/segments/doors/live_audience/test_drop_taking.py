"""What the drop folder takes: whole files, each delivery once, whatever dies meanwhile."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segments.ledger import jobs
from segments.ledger.database.engine import reading
from tests.segments.doors.live_audience.drop_world import CONTENT, WAIT_S, DropDoor, error

# -- what is never taken -------------------------------------------------------


async def test_file_that_is_still_being_written_is_not_taken(world: DropDoor) -> None:
    file_name = world.put_metadata(CONTENT)
    upload = world.folder.begin_upload(file_name)
    world.put(file_name, CONTENT[:100])

    await world.drop.turn()
    assert await world.jobs() == []

    world.put(file_name, CONTENT)
    world.folder.finish_upload(upload)
    await world.drop.turn()
    assert len(await world.jobs()) == 1


async def test_metadata_that_is_still_being_written_is_not_read(world: DropDoor) -> None:
    upload = world.folder.begin_upload("request.json")
    world.put("request.json", b"{")

    await world.drop.turn()
    assert world.status() is None

    world.put_metadata(CONTENT)
    world.folder.finish_upload(upload)
    await world.drop.turn()
    assert "transaction_id" in world.status()


async def test_upload_that_nobody_came_back_for_is_swept_and_counted(world: DropDoor) -> None:
    world.folder.break_upload(world.folder.begin_upload("a.txt"))
    world.put("a.txt", b"half")
    world.put("b.txt", b"whole, and waiting for its metadata")

    await world.drop.sweep()
    kept = world.folder.names()
    world.clock.now_s += world.settings.abandoned_after_s
    await world.drop.sweep()

    assert (kept, world.folder.names()) == (["a.txt", "b.txt"], [])
    labels = {"result": "abandoned"}
    assert world.registry.get_sample_value("segments_sftp_uploads_total", labels) == 1


async def test_data_file_that_still_grows_is_not_overdue(world: DropDoor) -> None:
    world.clock.now_s -= WAIT_S / 2
    metadata = world.folder.begin_upload("request.json")
    file_name = world.put_metadata(CONTENT)
    world.folder.finish_upload(metadata)
    await world.drop.turn()
    world.folder.begin_upload(file_name)
    world.put(file_name, CONTENT[:100])
    grown_at_s = world.folder.stat(file_name).st_ctime

    world.clock.now_s = grown_at_s + WAIT_S - 1
    await world.drop.turn()
    assert "transaction_id" in world.status()

    world.clock.now_s = grown_at_s + WAIT_S
    await world.drop.turn()
    assert world.status() == error(6)


async def test_plain_folder_is_left_alone_until_it_is_quiet(world: DropDoor) -> None:
    world.settings = world.settings.model_copy(update={"drop_quiet_s": 30.0})
    drop = world.restarted()
    world.put_metadata(CONTENT)
    written_at_s = world.folder.stat("request.json").st_ctime

    world.clock.now_s = written_at_s + 29
    await drop.turn()
    assert world.status() is None

    world.clock.now_s = written_at_s + 30
    await drop.turn()
    assert "transaction_id" in world.status()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), id="link"),
        pytest.param(lambda path: path.mkdir(), id="folder"),
        pytest.param(os.mkfifo, id="fifo"),
    ],
)
async def test_what_is_no_regular_file_is_neither_read_nor_in_the_way(
    world: DropDoor, make: Callable[[Path], object]
) -> None:
    make(world.folder.path / "a.json")
    file_name = world.put_metadata(CONTENT)
    make(world.folder.path / file_name)

    await world.drop.turn()

    assert world.status("a") is None
    assert "transaction_id" in world.status()
    assert await world.jobs() == []


async def test_names_with_control_characters_are_left_alone(
    world: DropDoor, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("a\x1b[2Jb\n.json", b"{}")

    await world.drop.turn()

    assert world.folder.names() == []
    assert "\x1b" not in caplog.text


async def test_answer_that_cannot_be_written_keeps_nobody_else_waiting(
    world: DropDoor, caplog: pytest.LogCaptureFixture
) -> None:
    (world.folder.path / "a.status").mkdir()
    world.put("a.json", b"{")
    world.put("b.json", b"{")

    for _ in range(3):
        await world.drop.turn()

    assert world.status("b") == error(1)
    assert caplog.text.count("IsADirectory") == 1  # a fault that lasts is not logged each second
    (world.folder.path / "a.status").rmdir()
    await world.drop.turn()
    assert world.status("a") == error(1)


# -- again, and after a crash --------------------------------------------------


async def test_corrected_metadata_takes_the_place_of_the_former(world: DropDoor) -> None:
    world.put_metadata(CONTENT, segments=[("1", "add")])
    await world.drop.turn()
    first = world.status()["transaction_id"]
    file_name = world.put_metadata(CONTENT, segments=[("2", "add")])
    await world.drop.turn()
    second = world.status()["transaction_id"]

    world.put(file_name, CONTENT)
    await world.drop.turn()

    assert first != second
    assert [job.transaction_id for job in await world.jobs()] == [second]


async def test_same_delivery_once_more_changes_nothing_and_is_answered(world: DropDoor) -> None:
    first = await world.deliver(CONTENT)
    second = await world.deliver(CONTENT)

    assert second["transaction_id"] != first["transaction_id"]
    assert second["segments"] == first["segments"]
    assert (await world.jobs())[0].report.unchanged == 20


async def test_same_delivery_under_two_names_is_one_job_with_two_answers(world: DropDoor) -> None:
    for name in ("one", "two"):
        world.put(world.put_metadata(CONTENT, name=name), CONTENT)
        await world.drop.turn()

    await world.load()
    await world.drop.turn()

    one, two = world.status("one"), world.status("two")
    assert len(await world.jobs()) == 1
    assert one["transaction_id"] != two["transaction_id"]
    assert one["segments"] == two["segments"]


class _Killed(BaseException):
    """The process is no more: nothing in it catches this."""


@pytest.mark.parametrize("steps", range(9))
async def test_killed_anywhere_it_goes_on_where_it_was(
    world: DropDoor, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """
    One delivery has one job and one answer, whichever of its steps came last:
    taking, answering, deleting, each on the disk or in the ledger.
    """
    left = steps

    def counted(do: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                raise _Killed
            left -= 1
            return do(*arguments, **named)

        return step

    world.put(world.put_metadata(CONTENT), CONTENT)
    with monkeypatch.context() as dying:
        for name in ("take", "answer", "drop"):
            dying.setattr(world.folder, name, counted(getattr(world.folder, name)))
        dying.setattr(jobs, "submit", counted(jobs.submit))
        try:
            await world.drop.turn()
            await world.load()
            await world.drop.turn()
        except _Killed:
            pass
    was_killed = left == 0

    world.drop = world.restarted()
    await world.drop.turn()
    await world.load()
    await world.drop.turn()

    (job,) = await world.jobs()
    assert world.status()["transaction_id"] == job.transaction_id
    assert world.status()["segments"][0]["records"] == 20
    assert world.folder.all_taken() == []
    assert world.folder.names() == ["request.status"]
    async with reading(world.ledger) as conn:
        found = await jobs.job(conn, job.id)
    assert found is not None
    names = await world.blobs.names()
    # A blob without a job is waste, a job without its blob would be a loss.
    assert found.blob in names
    assert was_killed or steps > 6


# -- running -------------------------------------------------------------------


async def test_two_on_one_folder_take_turns(
    world: DropDoor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first_stops, second_stops = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(world.drop.run(first_stops))
    await _until((world.folders.path / ".lock").exists)
    second = asyncio.create_task(world.restarted().run(second_stops))
    await _until(lambda: "another process watches" in caplog.text)

    first_stops.set()
    await asyncio.wait_for(first, 20)
    world.put("request.json", b"{")

    await _until(lambda: world.status() is not None)
    second_stops.set()
    await asyncio.wait_for(second, 20)


async def test_told_to_stop_while_another_works_it_stops(world: DropDoor) -> None:
    first_stops, second_stops = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(world.drop.run(first_stops))
    await _until((world.folders.path / ".lock").exists)
    second_stops.set()

    await asyncio.wait_for(world.restarted().run(second_stops), 20)

    first_stops.set()
    await asyncio.wait_for(first, 20)


async def _until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110 - what another does tells nobody
            await asyncio.sleep(0.01)
