"""
What went wrong between HTTP clients and APIs that take files and JSON, by public reports,
tried on our REST doors.

Each test names the report by its URL.
"""

import asyncio
import codecs
import gzip
import hashlib
import http.client
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.privacy.jwt import NotTrusted, verified
from segments.settings import Settings
from tests.engines import Engine
from tests.segments.doors.privacy.privacy_world import REQUESTS, PrivacyDoors
from tests.segments.doors.privacy.test_legacy_door import PUBLIC, signed
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_served

ALICE, BOB = hashes("alice", "bob")
FILE = text_of([ALICE, BOB])
_WITHIN_S = 30


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[RestDoors]:
    async with world_served(settings, ledger, valkey) as world:
        yield world


class Line:
    """A connection on which a test writes its own bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def status(self) -> int:
        """Return the status of the next answer, and read it to its end."""
        async with asyncio.timeout(_WITHIN_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = head.partition("content-length: ")[2].split("\r\n")[0]
            await self._reader.readexactly(int(length or 0))
        return int(head.split()[1])


async def sent(world: RestDoors, url: str, head: str, body: bytes = b"") -> Line:
    """PUT something with a head of the test's own."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    target = url.partition(place.netloc)[2]
    writer.write(f"PUT {target} HTTP/1.1\r\nHost: {place.netloc}\r\n{head}\r\n".encode() + body)
    return Line(reader, writer)


async def is_good(world: RestDoors, url: str) -> bool:
    """Tell whether nothing came of what was sent before: there is no job, and the URL works."""
    before = await world.jobs()
    again = await world.rest.ask("PUT", url, data=FILE)
    return (before, again.status) == ([], 200)


@pytest.mark.parametrize("size", ["4", "6", "-1", "0x5", "+5"])
async def test_chunk_of_another_size_than_it_says_is_refused_at_once(
    world: RestDoors, size: str
) -> None:
    """https://github.com/aio-libs/aiohttp/issues/10596: the server hung."""
    _, url = await world.presign()

    line = await sent(
        world, url, "Transfer-Encoding: chunked\r\n", f"{size}\r\nHello\r\n0\r\n\r\n".encode()
    )

    assert await line.status() == 400
    line.writer.close()
    assert await is_good(world, url)


@pytest.mark.parametrize("order", [1, -1])
async def test_length_beside_chunks_is_refused(world: RestDoors, order: int) -> None:
    """https://github.com/aio-libs/aiohttp/issues/4223: which of the two counts, none can know."""
    _, url = await world.presign()
    lines = ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"][::order]

    line = await sent(world, url, "".join(lines), b"5\r\nHello\r\n0\r\n\r\n")

    assert await line.status() == 400
    line.writer.close()
    assert await is_good(world, url)


async def test_file_that_is_longer_than_it_says_is_cut_nowhere(world: RestDoors) -> None:
    """https://github.com/aio-libs/aiohttp/issues/3998: a length by hand, and the rest was lost.

    What is behind the length is another request, and none: the file is as long as was said,
    and its digest tells.
    """
    _, url = await world.presign()
    digest = hashlib.sha256(FILE).hexdigest()

    line = await sent(world, url, f"Content-Length: 65\r\nx-amz-content-sha256: {digest}\r\n", FILE)

    assert await line.status() == 400
    line.writer.close()
    assert await is_good(world, url)


async def test_chunked_upload_is_taken(world: RestDoors) -> None:
    """https://github.com/aio-libs/aiohttp/issues/732: a client made chunks, and S3 refused them."""
    _, url = await world.presign()
    half = len(FILE) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (FILE[:half], FILE[half:], b""))

    line = await sent(world, url, "Transfer-Encoding: chunked\r\n", chunks)

    assert await line.status() == 200
    line.writer.close()
    await world.load_all()
    assert await world.audiences_of(BOB) == {world.seeded.shoes.id}


async def test_chunks_of_amazons_own_are_no_content(world: RestDoors) -> None:
    """https://github.com/boto/boto3/issues/4435: sizes and checksum stood in the stored file."""
    _, url = await world.presign()
    body = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:6da4RA==\r\n\r\n" % (len(FILE), FILE)
    head = (
        f"Content-Length: {len(body)}\r\nContent-Encoding: aws-chunked\r\n"
        "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n"
        "x-amz-trailer: x-amz-checksum-crc32\r\n"
    )

    line = await sent(world, url, head, body)

    assert await line.status() == 400
    line.writer.close()
    assert await is_good(world, url)


@pytest.mark.parametrize("name", ["my people.txt", "a+b.txt", "100%.txt", "ä&ö=ü.txt", "a%20b.txt"])
async def test_name_of_a_file_may_have_marks_that_urls_escape(world: RestDoors, name: str) -> None:
    """https://github.com/minio/minio/issues/4162, of a plus
    https://github.com/ex-aws/ex_aws/issues/176: the signature did not match.
    """
    _, url = await world.presign(filename=name)

    assert (await world.rest.ask("PUT", url, data=FILE)).status == 200


async def test_refusal_is_said_to_who_waits_for_100_continue(world: RestDoors) -> None:
    """https://github.com/lalinsky/dusty/issues/163: client and server waited for each other."""
    _, url = await world.presign()

    line = await sent(world, f"{url}0", "Content-Length: 1000\r\nExpect: 100-continue\r\n")

    assert await line.status() == 403
    line.writer.close()


async def test_body_behind_a_refusal_is_no_request(world: RestDoors) -> None:
    """https://github.com/lysine-dev/okhttp/issues/3252: the connection was used again."""
    _, url = await world.presign()
    body = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"

    line = await sent(
        world, f"{url}0", f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n", body
    )

    assert await line.status() == 403
    try:
        second = await line.status()
    except (asyncio.IncompleteReadError, ConnectionError):
        second = 0
    line.writer.close()
    assert second == 0


async def test_refusal_reaches_a_client_that_only_sends(world: RestDoors) -> None:
    """https://github.com/algesten/ureq/issues/676: a reset came before the answer was read."""
    _, url = await world.presign()
    place = urlsplit(url)

    def put() -> int:
        client = http.client.HTTPConnection(place.netloc, timeout=_WITHIN_S)
        client.request("PUT", url.partition(place.netloc)[2] + "0", body=bytes(8 << 20))
        status = client.getresponse().status
        client.close()
        return status

    assert await asyncio.to_thread(put) == 403


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; a="b"',
    ],
)
async def test_charset_beside_json_is_no_error(world: RestDoors, content_type: str) -> None:
    """https://github.com/bestarch-ae/cacherpc/issues/118"""
    answer = await world.rest.ask(
        "POST",
        "/audience",
        data=json.dumps({"advertiser": "shop", "name": "x"}),
        headers={"Content-Type": content_type},
    )

    assert answer.status == 201, answer


async def test_mark_before_json_is_passed_over(world: RestDoors) -> None:
    """https://github.com/microsoft/azure-pipelines-tasks/issues/1151: it was invalid JSON."""
    body = codecs.BOM_UTF8 + json.dumps({"advertiser": "shop", "name": "x"}).encode()

    answer = await world.rest.ask(
        "POST", "/audience", data=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status == 201, answer


async def test_compressed_upload_is_told_by_its_bytes_alone(world: RestDoors) -> None:
    """https://github.com/VertNet/bels/issues/46: a .csv.gz could not be uploaded."""
    request_id, url = await world.presign(filename="people.csv.gz")
    rows = "".join(f"1,{each}\r\n" for each in (ALICE, BOB))

    put = await world.rest.ask("PUT", url, data=gzip.compress(f"id,hem\r\n{rows}".encode()))
    await world.load_all()

    assert put.status == 200
    assert (await world.status(request_id))["status"] == "done"
    assert await world.audiences_of(BOB) == {world.seeded.shoes.id}


# -- privacy ---------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [6, 60, 240])
def test_clock_of_a_signer_may_be_ahead_by_a_little(ahead_s: int) -> None:
    """https://github.com/auth0/node-jsonwebtoken/issues/141, and of nbf
    https://github.com/jwtk/jjwt/issues/61: 6 seconds, and nobody got in.
    """
    now_s = int(time.time())
    token = signed(_claims(now_s, iat=now_s + ahead_s, nbf=now_s + ahead_s))

    assert verified(token, PUBLIC, audience="ours", now_s=now_s)


def test_clock_of_a_signer_may_not_be_ahead_by_much() -> None:
    """https://github.com/SandeepVashishtha/Eventra/pull/12527: only nbf was looked at."""
    now_s = int(time.time())

    with pytest.raises(NotTrusted):
        verified(signed(_claims(now_s, iat=now_s + 3600)), PUBLIC, audience="ours", now_s=now_s)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["plain", "with a mark"])
async def test_opt_out_of_a_client_that_says_its_charset_is_in_force(
    world: RestDoors, mark: bytes
) -> None:
    """https://github.com/aws/chalice/issues/306: a 415, where a no was meant."""
    officer = await PrivacyDoors(world.rest, world.seeded, world.redis).bearer(is_internal=True)
    body = mark + json.dumps({"action": "RESTRICT", "emailHashes": [ALICE]}).encode()

    answer = await officer.ask(
        "POST", REQUESTS, data=body, headers={"Content-Type": "application/json; charset=UTF-8"}
    )

    assert answer.status == 202, answer


def _claims(now_s: int, **said: Any) -> dict[str, Any]:
    return {
        "iss": "CN=dailyplanet.com",
        "aud": "ours",
        "iat": now_s,
        "exp": now_s + 600,
        "jti": "1",
        "cnf": {"kid": "key1"},
        "dsr": {
            "type": "OBJECT",
            "scope": "US_PRIVACY",
            "identifiers": [{"type": "EMAIL_HASH", "values": [ALICE]}],
        },
        **said,
    }
