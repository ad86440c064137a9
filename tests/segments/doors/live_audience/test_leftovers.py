"""Files in a partner's folder whose metadata were refused, or never came; and corrected ones."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from segments.doors.live_audience.drop import Drop
from segments.settings import Settings
from tests.kept_files import kept_files
from tests.segments.doors.live_audience.drop_world import CONTENT, HASHES, DropDoor, error
from tests.segments.ingest.deliveries import as_json, gz_of, metadata_of

DAY_S = 86_400.0
FILE_NAME = "people.txt"


def described(world: DropDoor, content: bytes = CONTENT, **file: Any) -> None:
    """Write `request.json` for `people.txt`, with these members of `file` changed."""
    metadata = metadata_of(content, records=len(content.splitlines()))
    metadata["file"] = {**metadata["file"], "name": FILE_NAME, **file}
    world.put("request.json", as_json(metadata))


async def end(world: DropDoor) -> Any:
    await world.drop.turn()
    await world.load()
    await world.drop.turn()
    return world.status()


async def swept(world: DropDoor, *, later_s: float = 0.0) -> list[str]:
    world.clock.now_s += later_s
    await world.drop.sweep()
    return [name for name in world.folder.names() if not name.endswith(".status")]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"digest": "0" * 32}, id="digest"),
        pytest.param({"records": 7}, id="records"),
        pytest.param({"records": 7, "name": "other.txt"}, id="records and name"),
    ],
)
@pytest.mark.parametrize("packed", [bytes, gz_of], ids=["txt", "gz"])
async def test_corrected_metadata_find_the_file_that_was_refused_for_them(
    world: DropDoor, wrong: dict[str, Any], packed: Any
) -> None:
    content = packed(CONTENT)
    described(world, content, **{"records": len(HASHES), **wrong})
    world.put(wrong.get("name", FILE_NAME), content)
    first = await end(world)

    described(world, content, records=len(HASHES))
    last = await end(world)

    assert first == error(7)
    assert (last["segments"][0]["code"], last["segments"][0]["records"]) == ("OK", len(HASHES))
    assert await world.members(HASHES) == len(HASHES)


async def test_corrected_metadata_of_another_file_wait_for_it(world: DropDoor) -> None:
    described(world, records=7)
    world.put(FILE_NAME, CONTENT)
    await end(world)

    described(world, CONTENT[:-65])
    await world.drop.turn()
    await world.drop.turn()

    assert len(await world.waiting()) == 1


@pytest.mark.parametrize(
    ("raw", "file_name"),
    [
        pytest.param(b"{", "request", id="no JSON, and the data file's name"),
        pytest.param(b'{"file": {"name": "people.txt"}}', FILE_NAME, id="by file.name"),
        pytest.param(b'{"file": {"name": "people.txt"}}', "people.txt.gz", id="packed"),
        pytest.param('{"file": {"name": "people.txt"}}'.encode("utf-16"), FILE_NAME, id="UTF-16"),
        pytest.param(
            '{"file": {"name": "people.txt"}}'.encode("utf-8-sig"), FILE_NAME, id="with a mark"
        ),
    ],
)
async def test_file_whose_metadata_were_refused_stays_for_corrected_ones_and_goes_after_a_day(
    world: DropDoor, raw: bytes, file_name: str
) -> None:
    world.put(file_name, CONTENT)
    world.put("request.json", raw)
    await world.drop.turn()
    assert world.status() == error(1)

    early = await swept(world, later_s=DAY_S - 60)
    late = await swept(world, later_s=120)

    assert (early, late) == ([file_name], [])
    assert list((world.folder.path / ".refused").iterdir()) == []


async def test_file_that_comes_behind_refused_metadata_goes_too(world: DropDoor) -> None:
    world.put("request.json", b'{"file": {"name": "people.txt"}}')
    await world.drop.turn()
    world.put(FILE_NAME, CONTENT)

    assert (await swept(world), await swept(world, later_s=DAY_S + 60)) == ([FILE_NAME], [])


async def test_nothing_is_kept_where_the_operator_says_so(
    world: DropDoor, settings: Settings
) -> None:
    options = dataclasses.replace(settings.drop_options, refused_file_s=0.0)
    world.clock.now_s += 60
    world.drop = Drop(options, world.ledger, world.blobs, world.folders, world.clock)
    world.put(FILE_NAME, CONTENT)
    world.put("request.json", b'{"file": {"name": "people.txt"}}')

    await world.drop.turn()

    assert world.folder.names() == ["request.status"]


async def test_corrected_metadata_take_the_file_of_a_day_before(world: DropDoor) -> None:
    world.put(FILE_NAME, CONTENT)
    world.put("request.json", b'{"file": {"name": "people.txt"}}')
    await world.drop.turn()
    await swept(world, later_s=DAY_S - 60)

    described(world)

    assert (await end(world))["segments"][0]["code"] == "OK"


async def test_file_without_metadata_goes_as_an_abandoned_upload_does(
    world: DropDoor, settings: Settings
) -> None:
    world.put(FILE_NAME, CONTENT)

    early = await swept(world, later_s=settings.abandoned_after_s - 60)
    late = await swept(world, later_s=120)

    assert (early, late) == ([FILE_NAME], [])


def files_below(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in kept_files(folder)]


async def test_nothing_but_ids_is_left_of_a_delivery(world: DropDoor, settings: Settings) -> None:
    content = b"leaver@acme.example\n" + CONTENT
    described(world, content)
    world.put(FILE_NAME, content)

    await end(world)

    left = b"".join(files_below(settings.drop_folder) + files_below(settings.data_dir / "blobs"))
    assert b"leaver@acme.example" not in left
    assert not any(digest.encode() in left for digest in HASHES)
    assert all(bytes.fromhex(digest)[:16] in left for digest in HASHES)
    (job,) = await world.jobs()
    assert (job.file_name, job.report.size_bytes) == (FILE_NAME, len(content))
