"""
What is kept of a file rebuilds the store byte for byte, whatever file it was.

The same store, three times: as it was loaded, rebuilt from the file as it came, which
versions before kept, and rebuilt from its ids.
"""

from base64 import b64encode
from collections.abc import AsyncIterator

import pytest

from segments.ledger.database.engine import open_ledger
from segments.model.job import Job, JobState
from segments.settings import Settings
from segments.upkeep.originals import Seen, see_to_originals
from tests.engines import Engine
from tests.segments.ingest.deliveries import email_hashes, gz_of, text_of, zip_of
from tests.segments.upkeep.scrub.scrub_world import PEOPLE, KeptFiles, begun

DAY_S = 86_400.0
MISTAKE = "leaver@acme.example"


@pytest.fixture
async def world(settings: Settings, engine: Engine) -> AsyncIterator[KeptFiles]:
    async with (
        open_ledger(settings.ledger_dsn) as ledger,
        begun(settings, ledger, engine) as world,
    ):
        yield world


def table_of(separator: str) -> bytes:
    head = separator.join(("name", "email_sha256", "city"))
    rows = [separator.join((f"Person {n}", digest, "Bonn")) for n, digest in enumerate(PEOPLE)]
    return "\r\n".join([head, *rows, separator.join(("Leaver", MISTAKE, "Bonn"))]).encode()


def in_base64(hashes: list[str]) -> bytes:
    return b"".join(b64encode(bytes.fromhex(digest)) + b"\n" for digest in hashes)


FILES = [
    pytest.param(text_of([*PEOPLE, MISTAKE, *PEOPLE[:5]]), 36, id="sha256"),
    pytest.param(text_of([MISTAKE, *email_hashes(30, "sha1")]), 31, id="sha1"),
    pytest.param(text_of([*email_hashes(30, "md5"), "x" * 5000, MISTAKE]), 32, id="md5"),
    pytest.param(text_of([d.upper() for d in PEOPLE])[:-1], 30, id="upper case, no last line end"),
    pytest.param(text_of([*PEOPLE, *email_hashes(5, "md5")]), 35, id="several types"),
    pytest.param(table_of(","), 31, id="a table with commas"),
    pytest.param(table_of("\t"), 31, id="a table with tabs"),
    pytest.param(in_base64(PEOPLE), 30, id="base64"),
    pytest.param(text_of([*PEOPLE, MISTAKE]).decode().encode("utf-16"), 31, id="UTF-16"),
    pytest.param(gz_of(text_of([*PEOPLE, MISTAKE])), 31, id="gz"),
    pytest.param(zip_of({"a.txt": text_of([MISTAKE, *PEOPLE])}), 31, id="zip"),
]


async def delivered(world: KeptFiles, content: bytes, records: int, action: str) -> Job:
    """Load a file; it is kept as it came."""
    await world.deliver(content, records=records, action=action)
    [job] = await world.load()
    assert job.state is JobState.DONE, job.error
    return await world.with_original(job, content)


@pytest.mark.parametrize(("content", "records"), FILES)
async def test_store_is_rebuilt_from_the_ids_of_any_file(
    world: KeptFiles, content: bytes, records: int
) -> None:
    before = await delivered(world, text_of(PEOPLE[:20]), 20, "add")
    job = await delivered(world, content, records, "add")
    await world.say_no(PEOPLE[3:6])
    await delivered(world, text_of([*PEOPLE[10:15], MISTAKE]), 6, "remove")
    lost = await world.dump()
    from_originals = await world.rebuilt()

    seen = await see_to_originals(world.tools, DAY_S)
    from_ids = await world.rebuilt()

    assert seen == Seen(became_ids=3)
    assert lost
    assert from_originals == lost
    assert from_ids == lost
    assert not any(MISTAKE.encode() in kept for kept in world.contents())
    assert (await world.job(job)).report.rows == records
    assert (await world.job(before)).report.is_ids
