"""
Metadata, data, or both once more: the retry ends as the first try did.
"""

import pytest

from tests.segments.doors.live_audience.drop_world import CONTENT, WAIT_S, DropDoor, error
from tests.segments.ingest.deliveries import as_json, email_hashes, gz_of, metadata_of, text_of

DAILY = "daily.txt"
DAY_2 = text_of(email_hashes(40)[20:])


def described(world: DropDoor, content: bytes, name: str = "request") -> None:
    """Write a metadata file that names the file of every day."""
    metadata = metadata_of(content, records=len(content.splitlines()))
    metadata["file"]["name"] = DAILY
    world.put(f"{name}.json", as_json(metadata))


async def end(world: DropDoor) -> object:
    await world.drop.turn()
    await world.load()
    await world.drop.turn()
    return world.status()


async def test_metadata_alone_once_more_is_answered_as_its_delivery_was(world: DropDoor) -> None:
    first = await world.deliver(CONTENT)
    assert first["segments"][0]["code"] == "OK"

    world.put_metadata(CONTENT)
    await world.drop.turn()
    at_once = world.status()
    world.clock.now_s += 2 * WAIT_S
    await world.drop.turn()

    assert at_once == first
    assert world.status() == first
    assert await world.waiting() == []


async def test_metadata_once_more_while_its_job_waits_is_the_same_delivery(world: DropDoor) -> None:
    world.put(world.put_metadata(CONTENT), CONTENT)
    await world.drop.turn()
    accepted = world.status()

    world.put_metadata(CONTENT)
    await world.drop.turn()

    assert world.status() == accepted
    assert await world.waiting() == []
    last = await end(world)
    assert isinstance(last, dict)
    assert last["transaction_id"] == accepted["transaction_id"]


async def test_both_once_more_end_as_the_first_try_did(world: DropDoor) -> None:
    first = await world.deliver(CONTENT)

    again = await world.deliver(CONTENT)

    assert again["segments"] == first["segments"]
    assert world.folder.names() == ["request.status"]


async def test_both_once_more_after_a_failure_are_a_new_try(world: DropDoor) -> None:
    world.put(world.put_metadata(CONTENT), CONTENT[:-1] + b"0")
    assert await end(world) == error(7)

    again = await world.deliver(CONTENT)

    assert again["segments"][0]["code"] == "OK"


async def test_metadata_once_more_after_its_segment_was_changed_waits_for_its_file(
    world: DropDoor,
) -> None:
    """
    Added, removed, and to be added again: the first delivery says nothing of the third.
    """
    await world.deliver(CONTENT)
    await world.deliver(CONTENT, name="other", segments=[("123", "remove")])

    world.put_metadata(CONTENT)
    await world.drop.turn()

    assert "code" not in world.status()["segments"][0]
    assert len(await world.waiting()) == 1


@pytest.mark.parametrize("copied", [CONTENT, CONTENT[:-1] + b"0"], ids=["whole", "broken"])
async def test_copy_of_an_earlier_file_does_not_poison_the_next_day(
    world: DropDoor, copied: bytes
) -> None:
    """
    A client that believed its first put had failed has put the file twice.
    """
    described(world, CONTENT)
    world.put(DAILY, copied)
    await end(world)
    world.put(DAILY, copied)

    described(world, DAY_2)
    await world.drop.turn()
    assert "transaction_id" in world.status()
    assert len(await world.waiting()) == 1
    world.put(DAILY, DAY_2)
    last = await end(world)

    assert isinstance(last, dict)
    assert last["segments"][0]["code"] == "OK"
    assert world.folder.names() == ["request.status"]


async def test_file_that_nobody_knows_fails_by_its_digest_at_once(world: DropDoor) -> None:
    described(world, CONTENT)
    world.put(DAILY, CONTENT)
    await end(world)

    described(world, DAY_2)
    world.put(DAILY, b"something else\n")

    assert await end(world) == error(7)


async def test_delivery_that_a_file_goes_to_is_told_what_it_was_called(world: DropDoor) -> None:
    described(world, CONTENT, name="monday")
    packed = gz_of(DAY_2)
    metadata = metadata_of(packed, records=len(DAY_2.splitlines()))
    metadata["file"]["name"] = DAILY
    world.put("tuesday.json", as_json(metadata))
    await world.drop.turn()

    world.put(f"{DAILY}.gz", packed)
    for _ in range(2):
        await end(world)

    assert world.details("tuesday")["data_file"] == f"{DAILY}.gz"


async def test_file_goes_to_the_delivery_whose_digest_it_has(world: DropDoor) -> None:
    """
    Two metadata files that name one file, for its data come under the same name every day.
    """
    described(world, CONTENT, name="monday")
    described(world, DAY_2, name="tuesday")
    await world.drop.turn()

    world.put(DAILY, DAY_2)
    await end(world)
    await world.drop.turn()
    await end(world)
    world.put(DAILY, CONTENT)
    await end(world)

    for name in ("monday", "tuesday"):
        assert world.status(name)["segments"][0]["code"] == "OK", name


async def test_answer_to_an_earlier_file_never_replaces_the_one_to_a_later(world: DropDoor) -> None:
    described(world, CONTENT)
    world.put(DAILY, CONTENT)
    await world.drop.turn()
    described(world, DAY_2)
    await world.drop.turn()
    later = world.status()["transaction_id"]

    await end(world)

    assert world.status()["transaction_id"] == later


async def test_refusal_of_a_later_file_stays_when_the_earlier_one_has_been_processed(
    world: DropDoor,
) -> None:
    described(world, CONTENT)
    world.put(DAILY, CONTENT)
    await world.drop.turn()
    world.put("request.json", b"{")
    await world.drop.turn()

    assert await end(world) == error(1)


async def test_metadata_that_was_replaced_by_a_broken_one_waits_no_longer(world: DropDoor) -> None:
    described(world, CONTENT)
    await world.drop.turn()
    world.put("request.json", b"{")
    await world.drop.turn()
    world.put(DAILY, CONTENT)

    assert await end(world) == error(1)
    assert await world.jobs() == []
