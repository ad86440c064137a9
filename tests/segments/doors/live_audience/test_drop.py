"""What the drop folder answers, by the document's own codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segments.doors.live_audience.drop import Drop
from segments.doors.live_audience.metadata import MAX_METADATA_BYTES
from segments.ledger import accounts
from segments.model.account import AccountKind
from segments.model.job import JobState
from segments.model.record import CorruptRecord
from segments.store.keys import bucket_key
from tests.segments.doors.live_audience.drop_world import (
    AGENCY_ID,
    CONTENT,
    HASHES,
    SUB_ID,
    WAIT_S,
    DropDoor,
    error,
)
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    gz_of,
    metadata_of,
    text_of,
    zip_of,
)

# -- the two answers -----------------------------------------------------------


async def test_metadata_is_answered_at_once_and_the_file_when_it_is_processed(
    world: DropDoor,
) -> None:
    """
    Both answers are the document's JSON, member for member ("Processing Status").
    """
    file_name = world.put_metadata(CONTENT, segments=[("123", "add"), ("456", "remove")])
    await world.drop.turn()

    accepted = world.status()
    transaction_id = accepted["transaction_id"]
    file = {
        "name": file_name,
        "hash": "md5",
        "digest": file_name.removesuffix(".txt"),
        "date": "2014-12-12",
        "records": 20,
    }
    assert transaction_id.isdecimal()
    assert accepted == {
        "transaction_id": transaction_id,
        "partner_id": PARTNER_ID,
        "file": file,
        "segments": [{"id": "123", "action": "add"}, {"id": "456", "action": "remove"}],
    }

    world.put(file_name, CONTENT)
    await world.drop.turn()
    await world.load()
    await world.drop.turn()

    assert world.status() == {
        "transaction_id": transaction_id,
        "partner_id": PARTNER_ID,
        "file": file,
        "segments": [
            {"id": "123", "action": "add", "code": "OK", "records": 20},
            {"id": "456", "action": "remove", "code": "OK", "records": 20},
        ],
    }
    assert await world.members(HASHES) == 20
    assert [job.transaction_id for job in await world.jobs()] == [transaction_id]
    assert world.folder.names() == ["request.status"]


async def test_data_file_may_come_first(world: DropDoor) -> None:
    file_name = f"{metadata_of(CONTENT, records=0)['file']['name']}"
    world.put(file_name, CONTENT)
    await world.drop.turn()
    assert world.folder.names() == [file_name]

    world.put_metadata(CONTENT)
    await world.drop.turn()
    await world.load()
    await world.drop.turn()

    assert world.status()["segments"][0]["code"] == "OK"


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        pytest.param("", lambda plain: plain, id="plain"),
        pytest.param(".gz", gz_of, id="gz"),
        pytest.param(".zip", lambda plain: zip_of({"hashes.txt": plain}), id="zip"),
    ],
)
@pytest.mark.parametrize("named", ["as it is", "with its suffix", "by its suffix alone"])
async def test_data_file_may_be_compressed(
    world: DropDoor, suffix: str, pack: Callable[[bytes], bytes], named: str
) -> None:
    delivered = pack(CONTENT)
    file_name = world.put_metadata(delivered, records=20)
    match named:
        case "with its suffix":
            file_name += suffix
        case "by its suffix alone":
            file_name = file_name.removesuffix(".txt") + (suffix or ".txt")
    world.put(file_name, delivered)

    await world.drop.turn()
    await world.load()
    await world.drop.turn()

    assert world.status()["segments"] == [
        {"id": "123", "action": "add", "code": "OK", "records": 20}
    ]


async def test_segment_id_that_is_no_integer_fails_its_own_action_alone(world: DropDoor) -> None:
    answer = await world.deliver(CONTENT, segments=[("shoes", "add"), ("1", "add")])

    assert answer["segments"] == [
        {"id": "shoes", "action": "add", "code": "1", "records": 0},
        {"id": "1", "action": "add", "code": "OK", "records": 20},
    ]


async def test_agency_delivers_for_its_sub_account(world: DropDoor) -> None:
    folder = world.folders.of(AGENCY_ID)
    fields: dict[str, Any] = {"partner_id": AGENCY_ID, "sub_id": SUB_ID}
    world.put(world.put_metadata(CONTENT, folder=folder, **fields), CONTENT, folder)

    await world.drop.turn()
    await world.load()
    await world.drop.turn()

    answer = world.status(folder=folder)
    assert (answer["partner_id"], answer["sub_id"]) == (AGENCY_ID, SUB_ID)
    assert answer["segments"][0]["code"] == "OK"


async def test_sub_id_of_an_advertiser_that_has_no_sub_accounts_says_nothing(
    world: DropDoor,
) -> None:
    answer = await world.deliver(CONTENT, sub_id="nl-7")

    assert answer["sub_id"] == "nl-7"
    assert answer["segments"][0]["code"] == "OK"
    assert await world.members(HASHES) == 20


async def test_advertiser_delivers_for_its_sub_account_once_it_has_one(world: DropDoor) -> None:
    async with world.ledger.begin() as conn:
        partner = await accounts.partner(conn, PARTNER_ID)
        owner = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "nl-7", "NL", parent=partner, now_s=0
        )

    answer = await world.deliver(CONTENT, sub_id="nl-7")
    (job,) = await world.jobs()
    world.put_metadata(CONTENT, sub_id="nl-8")
    await world.drop.turn()

    assert answer["segments"][0]["code"] == "OK"
    assert job.owner_id == owner.id
    assert world.status() == error(3)


# -- what is told beside -------------------------------------------------------


async def test_field_that_is_wrong_is_named(world: DropDoor) -> None:
    metadata = metadata_of(CONTENT, records=20)
    metadata["segments"][0]["action"] = "added"
    world.put("request.json", as_json(metadata))

    await world.drop.turn()

    assert world.status() == error(1)
    assert world.details() == {
        "reason": "not_well_formed",
        "message": "segments[0].action: is neither add nor remove",
        "what_to_do": "Correct the metadata file as the message says, and send it again.",
    }


async def test_bad_lines_are_told_by_number_and_reason(world: DropDoor) -> None:
    content = b"".join([*(f"{h}\n".encode() for h in HASHES[:2]), b"no hash\n"])

    await world.deliver(content)

    assert world.details()["lines"] == {
        "records": 3,
        "valid": 2,
        "bad": 1,
        "bad_lines": {"not_a_hash": [3]},
        "bad_by_reason": {"not_a_hash": 1},
        "bad_because": {"not_a_hash": "is no hash: send 32, 40 or 64 hex digits"},
    }
    assert '"no hash' not in json.dumps(world.details())


@pytest.mark.parametrize(
    ("header", "told"),
    [
        pytest.param("email_sha256", {"line": 1, "text": "email_sha256"}, id="a name we know"),
        pytest.param("Kundin", {"line": 1}, id="a name that could be a person's"),
    ],
)
async def test_line_that_was_taken_for_the_header_is_told(
    world: DropDoor, header: str, told: dict[str, Any]
) -> None:
    await world.deliver(f"{header}\n".encode() + CONTENT)

    assert world.details()["header"] == told


async def test_count_that_differs_is_told_with_what_was_counted(world: DropDoor) -> None:
    answer = await world.deliver(CONTENT, records=21)

    assert answer == error(7)
    assert world.details()["message"] == "20 records, announced were 21"
    assert world.details()["lines"]["records"] == 20


async def test_data_file_that_was_found_is_told(world: DropDoor) -> None:
    packed = gz_of(CONTENT)
    name = world.put_metadata(packed, records=20)
    world.put(f"{name}.GZ", packed)

    await world.drop.turn()
    world.drop = world.restarted()
    await world.load()
    await world.drop.turn()

    assert world.details()["data_file"] == f"{name}.GZ"


async def test_data_file_is_told_again_where_the_metadata_alone_come_again(
    world: DropDoor,
) -> None:
    packed = gz_of(CONTENT)
    name = world.put_metadata(packed, records=20)
    world.put(f"{name}.gz", packed)
    await world.drop.turn()
    await world.load()
    await world.drop.turn()
    first = world.details()

    world.put_metadata(packed, records=20)
    await world.drop.turn()

    assert world.details() == first
    assert first["data_file"] == f"{name}.gz"


async def test_id_of_13_digits_fails_its_own_action_with_a_sentence(world: DropDoor) -> None:
    """
    Such ids are ours to give: `POST /audience` would meet them.
    """
    answer = await world.deliver(CONTENT, segments=[("1000000000007", "add"), ("7", "add")])

    assert [each["code"] for each in answer["segments"]] == ["1", "OK"]
    (told,) = world.details()["segments"]
    assert told["id"] == "1000000000007"
    assert "ids of 13 digits are given by the service" in told["message"]


async def test_two_ids_of_one_number_are_two_and_are_warned_of(world: DropDoor) -> None:
    world.put_metadata(CONTENT, segments=[("00123", "add"), ("123", "remove"), ("5", "add")])

    await world.drop.turn()

    (warning,) = world.details()["warnings"]
    assert "00123 and 123 are different ones" in warning


# -- the document's error codes ------------------------------------------------


async def test_corrupt_store_is_error_0(world: DropDoor) -> None:
    """
    Of the internal errors the one that can be had without a bug.
    """
    await world.deliver(CONTENT)
    keys = [key async for key in world.redis.scan_iter(bucket_key(0)[:-1] + b"*")]
    for key in keys:
        for field in await world.redis.hkeys(key):
            await world.redis.hset(key, field, b"\xff\xff")

    assert await world.deliver(CONTENT) == error(0)


class _Broken(Drop):
    """A drop with a bug."""

    async def _record(self, *arguments: object) -> Any:
        raise CorruptRecord("something that ought not to happen")


async def test_bug_of_ours_is_error_0_and_stops_nothing(world: DropDoor) -> None:
    world.put_metadata(CONTENT)

    await _Broken(
        world.settings.drop_options, world.ledger, world.blobs, world.folders, world.clock
    ).turn()

    assert world.status() == error(0)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="0 bytes"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b"[]", id="not an object"),
        pytest.param(b"\xff\xfe{}", id="not UTF-8"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b" " * (MAX_METADATA_BYTES + 1), id="too large"),
        pytest.param(as_json({"partner_id": PARTNER_ID}), id="members missing"),
        pytest.param(
            as_json({**metadata_of(b"", records=0), "segments": []}), id="no segment at all"
        ),
    ],
)
async def test_metadata_that_is_not_well_formed_is_error_1(world: DropDoor, raw: bytes) -> None:
    world.put("request.json", raw)

    await world.drop.turn()

    assert world.status() == error(1)
    assert world.folder.names() == ["request.status"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"partner_id": None}, id="null"),
        pytest.param({"partner_id": ""}, id="empty"),
        pytest.param({"partner_id": "nobody"}, id="unknown"),
        pytest.param({"partner_id": AGENCY_ID, "sub_id": SUB_ID}, id="another partner's"),
    ],
)
async def test_partner_id_of_another_or_of_nobody_is_error_2(
    world: DropDoor, fields: dict[str, Any]
) -> None:
    world.put_metadata(CONTENT, **fields)

    await world.drop.turn()

    assert world.status() == error(2)


async def test_folder_that_is_no_partners_is_answered_with_error_2(world: DropDoor) -> None:
    folder = world.folders.of("nobody")
    world.put_metadata(CONTENT, folder=folder, partner_id="nobody")
    world.put_metadata(CONTENT, folder=folder, name="of-another")

    await world.drop.turn()

    assert world.status(folder=folder) == error(2)
    assert world.status("of-another", folder=folder) == error(2)


async def test_partner_that_was_switched_off_is_error_2(world: DropDoor) -> None:
    async with world.ledger.begin() as conn:
        await accounts.set_account_active(conn, await accounts.partner(conn, PARTNER_ID), False)
    world.put_metadata(CONTENT)

    await world.drop.turn()

    assert world.status() == error(2)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="missing where the partner is an agency"),
        pytest.param({"sub_id": "nobody"}, id="unknown"),
        pytest.param({"sub_id": ""}, id="empty"),
    ],
)
async def test_sub_id_missing_or_unknown_is_error_3(
    world: DropDoor, fields: dict[str, Any]
) -> None:
    folder = world.folders.of(AGENCY_ID)
    world.put_metadata(CONTENT, folder=folder, partner_id=AGENCY_ID, **fields)

    await world.drop.turn()

    assert world.status(folder=folder) == error(3)


@pytest.mark.parametrize("name", ["../other/a.txt", "/etc/passwd", "a\\b.txt"])
async def test_slash_in_the_file_name_is_error_4(world: DropDoor, name: str) -> None:
    metadata = metadata_of(CONTENT, records=20)
    world.put("request.json", as_json({**metadata, "file": {**metadata["file"], "name": name}}))

    await world.drop.turn()

    assert world.status() == error(4)


async def test_callback_url_of_wrong_form_is_error_5(world: DropDoor) -> None:
    world.put_metadata(CONTENT, callback_url="nonsense")

    await world.drop.turn()

    assert world.status() == error(5)


@pytest.mark.parametrize("clock_set_by_s", [3600, -3600])
async def test_clock_that_is_set_makes_no_data_file_late(
    world: DropDoor, clock_set_by_s: int
) -> None:
    world.put_metadata(CONTENT)
    await world.drop.turn()
    drop = Drop(
        world.settings.drop_options, world.ledger, world.blobs, world.folders,
        lambda: world.clock() + clock_set_by_s,
    )  # fmt: skip

    world.clock.now_s += WAIT_S - 1
    await drop.turn()
    assert "transaction_id" in world.status()

    world.clock.now_s += 1
    await drop.turn()
    assert world.status() == error(6)


async def test_data_file_that_does_not_come_in_time_is_error_6(world: DropDoor) -> None:
    world.put_metadata(CONTENT)
    await world.drop.turn()

    world.clock.now_s += WAIT_S - 1
    await world.drop.turn()
    assert "transaction_id" in world.status()

    world.clock.now_s += 1
    await world.drop.turn()
    assert world.status() == error(6)
    assert await world.waiting() == []


@pytest.mark.parametrize("algorithm", ["md5", "sha1"])
async def test_another_digest_is_error_7(world: DropDoor, algorithm: str) -> None:
    digest = "0" * (32 if algorithm == "md5" else 40)
    metadata = metadata_of(CONTENT, records=20)
    metadata["file"] |= {"hash": algorithm, "digest": digest, "name": "a.txt"}
    world.put("request.json", as_json(metadata))
    world.put("a.txt", CONTENT)

    await world.drop.turn()
    await world.load()
    await world.drop.turn()

    assert world.status() == error(7)
    assert (await world.jobs())[0].state is JobState.FAILED


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="0 bytes"),
        pytest.param(b"person@example.com\n", id="plain addresses"),
        pytest.param(zip_of({}), id="empty zip"),
        pytest.param(zip_of({"a.txt": CONTENT, "b.txt": CONTENT}), id="zip of two files"),
        pytest.param(gz_of(CONTENT)[:-9], id="gz cut short"),
        pytest.param(gz_of(bytes(80 << 20)), id="gzip bomb"),
        pytest.param(zip_of({"a.txt": bytes(80 << 20)}), id="zip bomb"),
    ],
)
async def test_file_without_a_valid_record_is_error_8(world: DropDoor, content: bytes) -> None:
    assert await world.deliver(content, records=0) == error(8)


async def test_path_inside_a_zip_leads_nowhere(world: DropDoor, tmp_path: Path) -> None:
    """
    The name of a member is not looked at, so it is a file like any other.
    """
    answer = await world.deliver(zip_of({"../../../escaped.txt": CONTENT}), records=20)

    assert answer["segments"][0]["code"] == "OK"
    assert list(tmp_path.rglob("escaped*")) == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(CONTENT.replace(b"\n", b"\r\n"), id="Windows line ends"),
        pytest.param(b"\xef\xbb\xbf" + CONTENT, id="byte order mark"),
        pytest.param(b"email_sha256\n" + CONTENT, id="header row"),
        pytest.param(CONTENT.replace(b"\n", b'"\n"').join([b'"', b'"']), id="quoted values"),
        pytest.param(CONTENT + b"x" * (8 << 20), id="a line without end"),
        pytest.param(CONTENT + text_of(email_hashes(1, "md5")), id="mixed hash lengths"),
    ],
)
async def test_files_as_partners_export_them_are_taken(world: DropDoor, content: bytes) -> None:
    extra = content.startswith((CONTENT + b"x", CONTENT + text_of(email_hashes(1, "md5"))))

    answer = await world.deliver(content, records=21 if extra else 20)

    assert "segments" in answer, answer
    assert await world.members(HASHES) == 20


async def test_answers_are_counted_by_their_code(world: DropDoor) -> None:
    await world.deliver(CONTENT)
    world.put_metadata(CONTENT, name="other", partner_id="nobody")
    await world.deliver(b"")

    def counted(answer: str, code: str) -> float | None:
        labels = {"answer": answer, "code": code}
        return world.registry.get_sample_value("segments_deliveries_total", labels)

    assert (counted("first", "accepted"), counted("first", "2")) == (2, 1)
    assert (counted("last", "ok"), counted("last", "8")) == (1, 1)


# -- callbacks -----------------------------------------------------------------


async def test_both_answers_are_called_back_as_they_stand_in_the_folder(world: DropDoor) -> None:
    url = "https://partner.example/done"
    file_name = world.put_metadata(CONTENT, callback_url=url)
    await world.drop.turn()

    (callback,) = await world.callbacks()
    assert (callback.url, json.loads(callback.body)) == (url, world.whole_status())

    world.put(file_name, CONTENT)
    await world.drop.turn()
    await world.load()
    await world.drop.turn()

    (callback,) = await world.callbacks()
    assert json.loads(callback.body) == world.whole_status()
    assert "code" in callback.body


async def test_refusal_is_called_back_too_but_not_for_others(world: DropDoor) -> None:
    url = "https://partner.example/done"
    agency = world.folders.of(AGENCY_ID)
    world.put_metadata(CONTENT, folder=agency, partner_id=AGENCY_ID, callback_url=url)
    world.put_metadata(CONTENT, partner_id="nobody", callback_url=url)

    await world.drop.turn()

    (told,) = [json.loads(c.body) for c in await world.callbacks()]
    assert {"error": told["error"]} == error(3)
