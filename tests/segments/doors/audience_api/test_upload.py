"""A PUT to an upload URL by clients that resume, check, repeat, and run in a browser."""

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator

import anycrc
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.settings import Settings
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.rest import serving
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_of

ALICE, BOB = hashes("alice", "bob")
FILE, OTHER = text_of([ALICE]), text_of([BOB])
PAGE = "https://partner.example"


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[RestDoors]:
    settings = settings.model_copy(update={"upload_cors_origins": (PAGE,)})
    seeded = await seed(ledger)
    async with (
        connect(valkey.url) as redis,
        serving(settings, ledger, redis) as rest,
        world_of(rest, seeded) as world,
    ):
        yield world


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def announced(content: bytes) -> list[tuple[str, str]]:
    """Return each header that says what these bytes are."""
    crc32c = int(anycrc.Model("CRC32-ISCSI").calc(content)).to_bytes(4, "big")
    crc64 = int(anycrc.Model("CRC64-NVME").calc(content)).to_bytes(8, "big")
    sha256 = base64_of(hashlib.sha256(content).digest())
    return [
        ("Content-MD5", base64_of(hashlib.md5(content, usedforsecurity=False).digest())),
        ("x-amz-checksum-crc32", base64_of(zlib.crc32(content).to_bytes(4, "big"))),
        ("x-amz-checksum-crc32c", base64_of(crc32c)),
        ("x-amz-checksum-crc64nvme", base64_of(crc64)),
        ("x-amz-checksum-sha1", base64_of(hashlib.sha1(content, usedforsecurity=False).digest())),
        ("x-amz-checksum-sha256", sha256),
        ("x-amz-content-sha256", hashlib.sha256(content).hexdigest()),
        ("Content-Digest", f"sha-256=:{sha256}:"),
        ("Content-Digest", f"unknown=:AAAA:, sha-256=:{sha256}:"),
        ("Repr-Digest", f"sha-512=:{base64_of(hashlib.sha512(content).digest())}:"),
        ("Digest", f"SHA-256={sha256}"),
    ]


def test_checksums_are_those_of_their_specifications() -> None:
    """
    The check value of each algorithm is of "123456789"; CRC-64/NVME's is S3's own example.
    """
    headers = dict(announced(b"123456789"))

    assert base64.b64decode(headers["x-amz-checksum-crc32c"]).hex() == "e3069283"
    assert base64.b64decode(headers["x-amz-checksum-crc64nvme"]).hex() == "ae8b14860a799888"


@pytest.mark.parametrize(("header", "value"), announced(FILE), ids=lambda text: text[:24])
async def test_upload_that_is_what_its_header_says_is_taken(
    world: RestDoors, header: str, value: str
) -> None:
    _, url = await world.presign()

    assert (await world.rest.ask("PUT", url, data=FILE, headers={header: value})).status == 200


@pytest.mark.parametrize(("header", "value"), announced(OTHER), ids=lambda text: text[:24])
async def test_upload_that_is_not_what_its_header_says_leaves_nothing_and_the_url_is_good(
    world: RestDoors, header: str, value: str
) -> None:
    _, url = await world.presign()

    refused = await world.rest.ask("PUT", url, data=FILE, headers={header: value})
    kept = await world.jobs()
    again = await world.rest.ask("PUT", url, data=FILE)

    assert (refused.status, kept, again.status) == (400, [], 200)
    assert header in refused.body["detail"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        pytest.param("Content-Range", "bytes 65-129/130", id="a part"),
        pytest.param("Content-MD5", "no base64", id="no MD5"),
        pytest.param("x-amz-checksum-crc32", "AAA=", id="no CRC"),
        pytest.param("Content-Digest", "sha-256=:AA:", id="too short a digest"),
        pytest.param("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", id="signed"),
        pytest.param("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", id="trailer"),
        pytest.param("Content-Encoding", "aws-chunked", id="chunks of its own"),
    ],
)
async def test_upload_that_is_no_whole_file_is_refused_and_the_url_is_good(
    world: RestDoors, header: str, value: str
) -> None:
    _, url = await world.presign()

    refused = await world.rest.ask("PUT", url, data=FILE, headers={header: value})
    again = await world.rest.ask("PUT", url, data=FILE)

    assert (refused.status, again.status, len(await world.jobs())) == (400, 200, 1)


async def test_sha256_that_says_nothing_is_passed_over(world: RestDoors) -> None:
    _, url = await world.presign()

    put = await world.rest.ask(
        "PUT", url, data=FILE, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    )

    assert put.status == 200


async def test_empty_upload_is_refused_and_the_url_is_good(world: RestDoors) -> None:
    _, url = await world.presign()

    empty = await world.rest.ask("PUT", url, data=b"")
    again = await world.rest.ask("PUT", url, data=FILE)

    assert (empty.status, again.status, len(await world.jobs())) == (400, 200, 1)


async def test_same_file_again_is_the_same_job_and_another_is_refused(world: RestDoors) -> None:
    """A client that did not hear our answer sends the file again."""
    request_id, url = await world.presign()

    first = await world.rest.ask("PUT", url, data=FILE)
    await world.load_all()
    same = await world.rest.ask("PUT", url, data=FILE)
    other = await world.rest.ask("PUT", url, data=OTHER)

    assert (first.status, same.status, other.status) == (200, 200, 409)
    assert len(await world.jobs()) == 1
    assert (await world.status(request_id))["status"] == "done"


async def test_page_of_an_origin_that_is_set_may_upload(world: RestDoors) -> None:
    _, url = await world.presign()
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }

    may = await world.rest.ask("OPTIONS", url, headers=asked)
    put = await world.rest.ask("PUT", url, data=FILE, headers={"Origin": PAGE})
    refused = await world.rest.ask("PUT", url, data=OTHER, headers={"Origin": PAGE})

    assert (may.status, put.status, refused.status) == (204, 200, 409)
    assert may.headers["Access-Control-Allow-Methods"] == "PUT"
    assert may.headers["Access-Control-Allow-Headers"] == "content-type"
    for answer in (may, put, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("origin", ["https://other.example", "null"])
async def test_page_of_another_origin_may_not(world: RestDoors, origin: str) -> None:
    _, url = await world.presign()

    answer = await world.rest.ask(
        "OPTIONS", url, headers={"Origin": origin, "Access-Control-Request-Method": "PUT"}
    )

    assert answer.status == 405
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_other_paths_answer_no_page(world: RestDoors) -> None:
    answer = await world.rest.ask("GET", "/openapi.json", headers={"Origin": PAGE})

    assert "Access-Control-Allow-Origin" not in answer.headers
