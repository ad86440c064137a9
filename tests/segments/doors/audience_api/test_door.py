"""The audience API over a real ledger, store and directory, with the loader's own code."""

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from gzip import compress
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.audience_api.upload_body import TAKES_AT_MOST_S
from segments.ledger import audiences
from segments.model.audience import AudienceState
from segments.model.identity import id_of_email_hash
from segments.model.job import JobState
from segments.settings import Settings
from segments.store.reader import read_catalog
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.kept_files import kept_files
from tests.ledger_seed import seed
from tests.rest import Rest, serving
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_of, world_served

ALICE, BOB, CAROL = hashes("alice", "bob", "carol")
PLAIN = {"Content-Type": "text/plain"}


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[RestDoors]:
    async with world_served(settings, ledger, valkey) as world:
        yield world


@pytest.fixture
async def rest(world: RestDoors) -> Rest:
    return world.rest


def blobs_in(settings: Settings) -> list[str]:
    return [path.name for path in kept_files(settings.data_dir / "blobs")]


def kept_in(settings: Settings) -> list[bytes]:
    return [path.read_bytes() for path in kept_files(settings.data_dir / "blobs")]


async def chunk(world: RestDoors, *lines: str, query: str = "?type=sha2") -> int:
    answer = await world.rest.ask(
        "POST", f"/realtime/audience/123{query}", data=text_of(lines), headers=PLAIN
    )
    return answer.status


# ---------------------------------------------------------------- audiences


async def test_created_audience_is_in_the_catalog_at_once(world: RestDoors) -> None:
    answer = await world.rest.ask(
        "POST",
        "/audience",
        {"advertiser": "shop", "externalId": "crm-7", "name": "Boots", "ttl": 86_401},
    )

    assert answer.status == 201
    assert answer.body["name"] == "Boots"
    assert answer.body["ttl"] == 2 * 86_400
    catalog = await read_catalog(world.redis)
    assert str(answer.body["id"]) in {entry.segment_id for entry in catalog.audiences}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        pytest.param(
            "/audience",
            {"advertiser": "shop", "name": "Boots", "TTL": 5},
            "the member TTL is not known; the nearest that is known is ttl",
            id="an audience",
        ),
        pytest.param(
            "/audience/upload/123",
            {"filename": "a.txt", "action": "add", "type": "md5", "fileName": "b.txt"},
            "the member fileName is not known; the nearest that is known is filename",
            id="an upload",
        ),
        pytest.param(
            "/audience",
            {"advertiser": "shop", "name": "Boots", "ada@example.com": 5},
            "a member whose name has 15 characters is not known",
            id="a value in a name's place",
        ),
    ],
)
async def test_member_that_is_not_known_is_refused_by_name(
    world: RestDoors, path: str, body: Any, message: str
) -> None:
    """
    Passed over, an audience would be there for good that was to end.
    """
    answer = await world.rest.ask("POST", path, body)

    assert answer.status == 400
    assert answer.body["detail"] == f"body: {message}"


async def test_members_of_answers_are_passed_over(world: RestDoors) -> None:
    created = await world.rest.ask(
        "POST", "/audience", {"id": 7, "advertiser": "shop", "name": "Boots"}
    )
    form = {"filename": "a.txt", "action": "add", "type": "md5", "requestId": "x", "output": {}}
    presigned = await world.rest.ask("POST", f"/audience/upload/{created.body['id']}", form)

    assert (created.status, presigned.status) == (201, 200)


async def test_created_audience_has_an_id_that_no_partner_may_choose(world: RestDoors) -> None:
    async with world.rest.services.ledger.begin() as conn:
        shop = world.seeded.shop
        for number in range(1, 20):
            await audiences.find_or_create_audience(conn, shop, shop, str(number), "X", now_s=0)

    answer = await world.rest.ask("POST", "/audience", {"advertiser": "shop", "name": "Boots"})
    again = await world.rest.ask("POST", "/audience", {"advertiser": "shop", "name": "Boots"})

    assert answer.status == 201
    assert answer.body["id"] != again.body["id"]
    assert 10**12 <= answer.body["id"] < again.body["id"] < 10**13


async def test_external_id_names_one_audience_until_that_is_deleted(world: RestDoors) -> None:
    form = {"advertiser": "shop", "externalId": "crm-7", "name": "Boots"}
    first = await world.rest.ask("POST", "/audience", form)
    second = await world.rest.ask("POST", "/audience", form)
    async with world.rest.services.ledger.begin() as conn:
        found = await audiences.find_audience(conn, world.seeded.shop, str(first.body["id"]))
        assert found is not None
        await audiences.set_state(conn, found, AudienceState.DELETED, now_s=0)

    third = await world.rest.ask("POST", "/audience", form)

    assert [each.status for each in (first, second, third)] == [201, 409, 201]


async def test_agency_creates_audiences_of_its_sub_accounts(world: RestDoors) -> None:
    async with world.rest.acting_for(world.seeded.agency) as agency:
        answer = await agency.ask("POST", "/audience", {"advertiser": "sub", "name": "Caps"})
        url = f"/audience/upload/{answer.body['id']}"
        form = {"filename": "a.txt", "action": "add", "type": "md5"}
        presigned = await agency.ask("POST", url, form)

    assert (answer.status, presigned.status) == (201, 200)
    assert "x-amz-meta-advertiser-id=sub&" in presigned.body["output"]["presignedURI"]


@pytest.mark.parametrize("advertiser", ["agency", "sub", "nobody", "p"])
async def test_nobody_creates_audiences_of_others(world: RestDoors, advertiser: str) -> None:
    answer = await world.rest.ask("POST", "/audience", {"advertiser": advertiser, "name": "X"})

    assert answer.status == 403


async def test_audience_of_another_partner_is_not_there(world: RestDoors) -> None:
    """
    The shop and the agency's sub account both call one of theirs 123.
    """
    async with world.rest.acting_for(world.seeded.sub) as sub:
        form = {"filename": "a.txt", "action": "add", "type": "md5"}
        presigned = await sub.ask("POST", "/audience/upload/123", form)
        request_id, _ = await world.presign()
        not_theirs = await sub.ask("GET", f"/audience/upload/{request_id}")

    unique = f"unique-segment-id={world.seeded.hats.id}&"
    assert unique in presigned.body["output"]["presignedURI"]
    assert not_theirs.status == 404


# ---------------------------------------------------------------- uploads


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(text_of([ALICE, BOB]), id="txt"),
        pytest.param(compress(text_of([ALICE, BOB])), id="gz"),
        pytest.param(b"\xef\xbb\xbfhash\r\n" + f"{ALICE}\r\n{BOB}".encode(), id="Windows"),
        pytest.param(f'"{ALICE}"\n"{BOB}"\n'.encode(), id="quoted"),
    ],
)
async def test_uploaded_file_is_loaded(world: RestDoors, content: bytes) -> None:
    request_id, url = await world.presign()
    waiting = await world.status(request_id)

    put = await world.rest.ask("PUT", url, data=content)
    queued = await world.status(request_id)
    await world.load_all()
    done = await world.status(request_id)

    assert (waiting["status"], queued["status"], done["status"]) == ("waiting", "queued", "done")
    assert (put.status, put.raw) == (200, b"")
    assert (done["records"], done["badRecords"], done["processedRecords"]) == (2, 0, 2)
    assert await world.audiences_of(ALICE) == {world.seeded.shoes.id}


async def test_zip_of_one_file_is_loaded(world: RestDoors) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.txt", text_of([ALICE]))
    _, url = await world.presign(filename="add.sha2.zip")

    await world.rest.ask("PUT", url, data=packed.getvalue())
    await world.load_all()

    assert await world.audiences_of(ALICE) == {world.seeded.shoes.id}


async def test_upload_removes(world: RestDoors) -> None:
    assert await chunk(world, ALICE, BOB) == 200
    _, url = await world.presign(action="remove")

    await world.rest.ask("PUT", url, data=text_of([ALICE]))
    await world.load_all()

    assert await world.audiences_of(ALICE) == set()
    assert await world.audiences_of(BOB) == {world.seeded.shoes.id}


async def test_same_file_added_removed_and_added_again_is_in(world: RestDoors) -> None:
    """
    The third is no repetition of the first, though it looks the same.
    """
    for action in ("add", "remove", "add"):
        _, url = await world.presign(action=action)
        assert (await world.rest.ask("PUT", url, data=text_of([ALICE]))).status == 200
    await world.load_all()

    assert len(await world.jobs()) == 3
    assert await world.audiences_of(ALICE) == {world.seeded.shoes.id}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"alice@example.com\nbob@example.com\n", "8", id="no hashes"),
        pytest.param(text_of(hashes("alice", kind="md5")), "8", id="hashes of another type"),
        pytest.param(b"PK\x03\x04 and no more", "8", id="broken archive"),
        pytest.param(compress(bytes(100 << 20)), "8", id="bomb"),
    ],
)
async def test_file_that_is_none_fails_its_job_and_says_so(
    world: RestDoors, content: bytes, code: str
) -> None:
    request_id, url = await world.presign()

    put = await world.rest.ask("PUT", url, data=content)
    await world.load_all()

    status = await world.status(request_id)
    assert put.status == 200
    assert status["status"] == "failed"
    assert status["error"] == {"code": code, "description": "File has no valid records"}


async def test_used_url_is_refused(world: RestDoors, settings: Settings) -> None:
    _, url = await world.presign()

    first = await world.rest.ask("PUT", url, data=text_of([ALICE]))
    second = await world.rest.ask("PUT", url, data=text_of([BOB]))

    assert (first.status, second.status) == (200, 409)
    assert len(await world.jobs()) == len(blobs_in(settings)) == 1


async def test_of_two_uploads_at_once_one_is_taken(world: RestDoors, settings: Settings) -> None:
    _, url = await world.presign()

    answers = await asyncio.gather(
        *(world.rest.ask("PUT", url, data=text_of([digest] * 5000)) for digest in (ALICE, BOB))
    )

    assert sorted(answer.status for answer in answers) == [200, 409]
    assert len(await world.jobs()) == len(blobs_in(settings)) == 1


async def test_expired_url_is_refused(world: RestDoors) -> None:
    request_id, url = await world.presign()

    world.rest.clock.ahead_s = 3600
    # The access token has expired with it.
    token = (await world.rest.login(f"user-{world.seeded.shop.id}")).body["token"]
    world.rest.headers["Authorization"] = f"bearer {token}"
    answer = await world.rest.ask("PUT", url, data=text_of([ALICE]))

    assert answer.status == 403
    assert (await world.status(request_id))["status"] == "expired"
    assert await world.jobs() == []


async def test_changed_url_is_refused(world: RestDoors) -> None:
    _, url = await world.presign()

    answers = [
        await world.rest.ask("PUT", url.replace(old, new), data=text_of([ALICE]))
        for old, new in [("meta-action=add", "meta-action=remove"), ("/add/", "/remove/")]
    ]

    assert [answer.status for answer in answers] == [403, 403]
    assert await world.jobs() == []


@pytest.mark.parametrize(
    ("filename", "status"),
    [
        pytest.param("ü & é ? # % + 100%.txt", 200, id="anything that can be printed"),
        pytest.param("x" * 256, 200, id="long"),
        pytest.param("𝕏" * 256, 200, id="long in bytes"),
        pytest.param("a" * 257, 400, id="too long"),
        pytest.param("../../etc/passwd", 400, id="slashes"),
        pytest.param("..\\a", 400, id="backslash"),
        pytest.param("..", 400, id="dots"),
        pytest.param("a\nb", 400, id="line end"),
        pytest.param("a\x00b", 400, id="NUL"),
        pytest.param("", 400, id="empty"),
    ],
)
async def test_file_name_is_data_and_never_a_path(
    world: RestDoors, settings: Settings, filename: str, status: int
) -> None:
    form = {"filename": filename, "action": "add", "type": "sha2"}

    presigned = await world.rest.ask("POST", "/audience/upload/123", form)

    assert presigned.status == status
    if status == 200:
        url = presigned.body["output"]["presignedURI"]
        assert (await world.rest.ask("PUT", url, data=text_of([ALICE]))).status == 200
        assert [job.file_name for job in await world.jobs()] == [filename]
        (blob,) = blobs_in(settings)
        assert len(blob) == 32


async def test_upload_that_breaks_off_leaves_no_job_and_can_be_tried_again(
    world: RestDoors, settings: Settings
) -> None:
    request_id, url = await world.presign()
    _, writer = await asyncio.open_connection(*_host_and_port(url))
    target = url.partition("/uploads")[2]
    head = f"PUT /uploads{target} HTTP/1.1\r\nHost: {_host(url)}\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head.encode() + text_of([ALICE]))
    await writer.drain()
    writer.transport.abort()

    await asyncio.sleep(0)
    again = await world.rest.ask("PUT", url, data=text_of([BOB]))
    await world.load_all()

    assert again.status == 200
    assert (await world.status(request_id))["status"] == "done"
    assert len(await world.jobs()) == 1
    assert await world.audiences_of(ALICE) == set()
    await _until_it_is_kept_once(settings)


async def test_file_that_is_too_large_is_refused_however_it_comes(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> None:
    small = settings.model_copy(update={"upload_max_bytes": 1000})
    seeded = await seed(ledger)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(100)

    async with (
        connect(valkey.url) as redis,
        serving(small, ledger, redis) as rest,
        world_of(rest, seeded) as world,
    ):
        _, url = await world.presign()
        announced = await world.rest.ask("PUT", url, data=bytes(1001))
        chunked = await world.rest.ask("PUT", url, data=pieces())
        largest = await world.rest.ask("PUT", url, data=bytes(1000))

        assert [announced.status, chunked.status, largest.status] == [413, 413, 200]
        assert len(await world.jobs()) == 1
    assert len(blobs_in(small)) == 1


async def test_upload_that_dribbles_for_days_is_ended_and_leaves_nothing(
    world: RestDoors, settings: Settings
) -> None:
    """
    What was begun longer ago than that may be swept, so it must not be under way.
    """
    _, url = await world.presign()

    async def dribble() -> AsyncIterator[bytes]:
        yield text_of([ALICE])
        while True:
            await asyncio.sleep(0.01)
            world.rest.clock.ahead_s += TAKES_AT_MOST_S / 3
            yield b"\n"

    ended = await world.rest.ask("PUT", url, data=dribble())

    assert ended.status == 408
    assert await world.jobs() == []
    assert blobs_in(settings) == []


async def test_disk_that_takes_no_more_is_no_fault_of_the_partner(
    world: RestDoors, settings: Settings
) -> None:
    _, url = await world.presign()
    blobs = settings.data_dir / "blobs"
    aside = blobs.rename(blobs.with_name("aside"))
    blobs.touch()

    refused = await world.rest.ask("PUT", url, data=text_of([ALICE]))
    blobs.unlink()
    aside.rename(blobs)
    taken = await world.rest.ask("PUT", url, data=text_of([ALICE]))

    assert (refused.status, taken.status) == (503, 200)


async def test_file_of_an_audience_deleted_meanwhile_fails_and_revives_nothing(
    world: RestDoors,
) -> None:
    request_id, url = await world.presign()
    await world.rest.ask("PUT", url, data=text_of([ALICE]))
    _, late_url = await world.presign()
    async with world.rest.services.ledger.begin() as conn:
        shoes = world.seeded.shoes
        await audiences.set_state(conn, shoes, AudienceState.DELETED, now_s=0)

    late = await world.rest.ask("PUT", late_url, data=text_of([ALICE]))
    await world.load_all()

    assert late.status == 404
    assert (await world.status(request_id))["status"] == "failed"
    assert await world.audiences_of(ALICE) == set()


# ---------------------------------------------------------------- small chunks


async def test_chunk_is_in_the_store_when_it_is_answered(world: RestDoors) -> None:
    answer = await world.rest.ask(
        "POST", "/realtime/audience/123?type=sha2", data=text_of([ALICE, BOB, BOB]), headers=PLAIN
    )

    assert answer.status == 200
    assert answer.body["output"] == {"records": 3, "status": "applied"}
    assert await world.audiences_of(ALICE) == {world.seeded.shoes.id}
    (job,) = await world.jobs()
    assert (job.state, job.report.added, job.report.duplicates) == (JobState.DONE, 2, 1)
    status = await world.status(answer.body["requestId"])
    assert (status["status"], status["processedRecords"]) == ("done", 3)


async def test_what_is_kept_of_a_chunk_is_its_ids_alone(
    world: RestDoors, settings: Settings
) -> None:
    nobody = hashlib.sha256(b"").hexdigest()

    assert await chunk(world, ALICE, nobody, BOB) == 200

    assert kept_in(settings) == [b"".join(map(id_of_email_hash, (ALICE, BOB)))]
    (job,) = await world.jobs()
    assert (job.report.rows, job.report.size_bytes) == (2, 3 * 65)


async def test_what_is_kept_of_an_upload_is_its_ids_and_the_same_bytes_are_known_again(
    world: RestDoors, settings: Settings
) -> None:
    _, url = await world.presign()
    content = text_of([ALICE, "leaver@acme.example", BOB])

    await world.rest.ask("PUT", url, data=content)
    await world.load_all()
    same = await world.rest.ask("PUT", url, data=content)
    other = await world.rest.ask("PUT", url, data=text_of([ALICE, BOB]))

    (kept,) = kept_in(settings)
    assert {kept[:16], kept[16:]} == {id_of_email_hash(ALICE), id_of_email_hash(BOB)}
    assert (same.status, other.status) == (200, 409)
    (job,) = await world.jobs()
    assert (job.report.size_bytes, job.report.rows) == (len(content), 3)


async def test_chunk_removes(world: RestDoors) -> None:
    await chunk(world, ALICE, BOB)

    status = await chunk(world, ALICE.upper(), query="?type=SHA2&action=remove")

    assert status == 200
    assert await world.audiences_of(ALICE) == set()
    assert await world.audiences_of(BOB) == {world.seeded.shoes.id}


@pytest.mark.parametrize("kind", ["md5", "sha1"])
async def test_chunk_of_each_type(world: RestDoors, kind: str) -> None:
    (digest,) = hashes("alice", kind=kind)

    assert await chunk(world, digest, query=f"?type={kind}") == 200
    assert await world.audiences_of(digest) == {world.seeded.shoes.id}


@pytest.mark.parametrize(
    ("lines", "query", "status"),
    [
        pytest.param([ALICE, "alice@example.com"], "?type=sha2", 400, id="one bad line"),
        pytest.param(["email", ALICE], "?type=sha2", 400, id="header row"),
        pytest.param([ALICE, *hashes("bob", kind="md5")], "?type=sha2", 400, id="mixed"),
        pytest.param([], "?type=sha2", 400, id="nothing"),
        pytest.param([ALICE], "", 400, id="no type"),
        pytest.param([ALICE], "?type=sha512", 400, id="unknown type"),
        pytest.param([ALICE], "?type=sha2&acton=remove", 400, id="misspelt action"),
        pytest.param([ALICE], "?type=sha2&type=sha2", 400, id="type twice"),
        pytest.param([ALICE] * 10_001, "?type=sha2", 413, id="too many"),
    ],
)
async def test_chunk_that_is_not_in_order_changes_nothing(
    world: RestDoors, lines: list[str], query: str, status: int
) -> None:
    assert await chunk(world, *lines, query=query) == status
    assert await world.audiences_of(ALICE) == set()
    assert await world.jobs() == []


async def test_hash_of_nothing_in_a_chunk_is_dropped_and_told(world: RestDoors) -> None:
    nothing = hashlib.sha256(b"").hexdigest()
    answer = await world.rest.ask(
        "POST",
        "/realtime/audience/123?type=sha2",
        data=text_of([ALICE, nothing, "0" * 64]),
        headers=PLAIN,
    )
    alone = await chunk(world, nothing)

    assert (answer.status, alone) == (200, 400)
    assert answer.body["output"] == {"records": 1, "dropped": 2, "status": "applied"}
    assert await world.audiences_of(ALICE) != set()


async def test_refused_chunk_names_lines_and_quotes_none(world: RestDoors) -> None:
    answer = await world.rest.ask(
        "POST",
        "/realtime/audience/123?type=sha2",
        data=text_of([ALICE, "alice@example.com"]),
        headers=PLAIN,
    )

    assert answer.body["badLines"] == [{"line": 2, "reason": "email_address"}]
    assert b"alice" not in answer.raw


async def test_chunk_does_not_wait_for_a_file_and_wins_over_it(world: RestDoors) -> None:
    """
    The file came first, so the chunk has the last word, also where the file is
    written after it.
    """
    _, url = await world.presign()
    await world.rest.ask("PUT", url, data=text_of([ALICE, BOB]))

    await chunk(world, CAROL)
    added = await world.audiences_of(CAROL)
    await chunk(world, ALICE, query="?type=sha2&action=remove")
    await world.load_all()

    assert added == {world.seeded.shoes.id}
    assert await world.states() == [JobState.DONE] * 3
    assert await world.audiences_of(ALICE) == set()
    assert await world.audiences_of(BOB) == {world.seeded.shoes.id}
    assert await world.audiences_of(CAROL) == {world.seeded.shoes.id}


async def test_chunk_is_kept_while_the_store_is_away(world: RestDoors, valkey: Engine) -> None:
    valkey.kill()

    answer = await world.rest.ask(
        "POST", "/realtime/audience/123?type=sha2", data=text_of([ALICE]), headers=PLAIN
    )
    valkey.start()
    await world.load_all()

    assert (answer.status, answer.body["output"]["status"]) == (202, "waiting")
    assert await world.audiences_of(ALICE) == {world.seeded.shoes.id}
    assert (await world.status(answer.body["requestId"]))["status"] == "done"


async def test_chunks_at_once_are_all_applied_and_done(world: RestDoors) -> None:
    digests = hashes(*(f"person {number}" for number in range(20)))

    statuses = await asyncio.gather(*(chunk(world, digest) for digest in digests))

    assert set(statuses) == {200}
    assert await world.states() == [JobState.DONE] * 20
    for digest in digests:
        assert await world.audiences_of(digest) == {world.seeded.shoes.id}


async def _until_it_is_kept_once(settings: Settings) -> None:
    async with asyncio.timeout(20):
        while len(blobs_in(settings)) != 1:  # noqa: ASYNC110 - another task of obstore's
            await asyncio.sleep(0.01)


def _host(url: str) -> str:
    return url.split("/")[2]


def _host_and_port(url: str) -> tuple[str, int]:
    host, _, port = _host(url).partition(":")
    return host, int(port)
