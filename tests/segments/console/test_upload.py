"""A file from a page: kept whole or not at all, for one's own audience alone."""

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import FormData
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.audience_api.schemas import UploadForm
from segments.doors.audience_api.upload_body import TAKES_AT_MOST_S
from segments.doors.live_audience.metadata import read_metadata
from segments.ledger import jobs
from segments.ledger.privacy.audit import entries
from segments.loader.loader import Loader
from segments.model.identity import id_of_email_hash
from segments.model.job import Job, JobState
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from tests.console import Browser, Served, Shown, serving_console
from tests.engines import Engine
from tests.ledger_seed import Seeded
from tests.segments.doors.rest.rest_world import hashes, text_of

ADA, BOB = hashes("ada", "bob")


async def put(
    browser: Browser,
    content: bytes | AsyncIterator[bytes],
    *,
    audience: int | str = 1,
    action: str = "add",
    token: str | None = None,
    name: str = "people.txt",
    headers: dict[str, str] | None = None,
) -> Shown:
    form = FormData(quote_fields=False)  # as browsers do
    form.add_field("_t", browser.token if token is None else token)
    form.add_field("audience", str(audience))
    form.add_field("action", action)
    form.add_field("file", content, filename=name)
    return await browser.ask("POST", "/upload", data=form, headers=headers or {})


async def kept(ledger: AsyncEngine) -> list[Job]:
    async with ledger.connect() as conn:
        return list(await jobs.jobs(conn, 9))


async def test_the_scripts_beside_the_form_are_what_the_doors_take(
    console: Served, seeded: Seeded
) -> None:
    async with console.user_of(seeded.agency) as agency, console.user_of(seeded.sub) as sub:
        pages = [await browser.see("/upload") for browser in (agency, sub)]
    for page, query in zip(pages, ("?advertiser=sub", ""), strict=True):
        blocks = re.findall(r"<pre[^>]*>(.*?)</pre>", page.text, re.DOTALL)
        assert not [block for block in blocks if "<" in block]
        _, by_api, by_sftp = map(html.unescape, blocks)
        assert f'"$API/audience/upload/123{query}" ' in by_api
        (form,) = re.findall(r"""--json '(\{"filename".*?\})'""", by_api, re.DOTALL)
        UploadForm.model_validate_json(form)
        described = by_sftp.partition("<<END")[2].partition("\nEND\n")[0]
        filled = re.sub(r"\$\(.*?\)", lambda each: _ANSWERS[each[0]], described)
        metadata = read_metadata(filled.encode())
        assert (metadata.partner_id, metadata.sub_id) == ("agency", "sub")
        assert [(each.id, each.name) for each in metadata.segments] == [("123", "Hats")]
        assert "agency@HOST" in by_sftp


_ANSWERS = {
    "$(md5sum < add.txt | cut -d' ' -f1)": "0" * 32,
    "$(date -u +%F)": "2026-12-01",
    "$(wc -l < add.txt)": "1",
}


async def test_a_file_of_a_page_changes_the_audience(
    console: Served, seeded: Seeded, ledger: AsyncEngine, settings: Settings
) -> None:
    services = console.services
    async with console.user_of(seeded.shop) as shop:
        page = await shop.see("/upload?audience=1")
        assert 'value="1" selected' in page.text
        answer = await put(shop, text_of([ADA, BOB]), name="files/people\u202e.txt")
        assert answer.status == 303, answer.said
        loader = Loader(settings.loader_options, ledger, services.redis, services.blobs)
        await loader.catch_up()
        job = await loader.claim()
        assert job is not None
        assert job.file_name == "people\ufffd.txt"
        assert (await loader.run_one(job, asyncio.Event())).state is JobState.DONE
        said = (await shop.see(answer.location)).said
        assert "Persons it named 2" in said
        assert "Kept." in said
    meta = await read_meta(services.redis)
    (record,) = await read_records(services.redis, meta, [id_of_email_hash(ADA)])
    assert {each.audience_id for each in record.memberships} == {seeded.shoes.id}
    async with ledger.connect() as conn:
        rows = [row async for row in entries(conn) if row["what"] == "upload"]
    assert [(row["actor"], row["target"]) for row in rows] == [("user", "audience 1")]


async def test_a_file_that_may_not_come_leaves_nothing(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    content = text_of([ADA])
    async with console.user_of(seeded.shop) as shop:
        await shop.see("/upload")
        answers = [
            await put(shop, content, token="0" * 32),
            await put(shop, content, headers={"Sec-Fetch-Site": "cross-site"}),
            await put(shop, content, audience=seeded.hats.id),
            await put(shop, content, audience="1 or 1"),
            await put(shop, content, action="replace"),
            await put(shop, b""),
            await shop.send("/upload", audience="1", action="add"),
        ]
    assert [answer.status for answer in answers] == [403, 403, 404, 400, 400, 400, 403]
    assert await kept(ledger) == []
    assert await console.services.blobs.names() == []


async def test_a_file_that_dribbles_for_days_is_ended_and_leaves_nothing(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async def dribble() -> AsyncIterator[bytes]:
        yield text_of([ADA])
        while True:
            await asyncio.sleep(0.01)
            console.clock.ahead_s += TAKES_AT_MOST_S / 3
            yield b"\n"

    async with console.user_of(seeded.shop) as shop:
        await shop.see("/upload")
        ended = await put(shop, dribble())
    assert (ended.status, "Not done within 24 h." in ended.said) == (408, True)
    assert await kept(ledger) == []
    assert await console.services.blobs.names() == []


async def test_a_script_is_answered_in_json(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    asked = {"Accept": "application/json"}
    async with console.user_of(seeded.shop) as shop:
        await shop.see("/upload")
        done = json.loads((await put(shop, text_of([ADA]), headers=asked)).text)
        wrong = await put(shop, b"", headers=asked)
    (job,) = await kept(ledger)
    assert done == {"delivery": f"/deliveries/{job.transaction_id}"}
    assert (wrong.status, json.loads(wrong.text)) == (400, {"error": "The file is empty."})


@pytest.mark.parametrize("size_bytes", [1001, 700_000])
async def test_a_file_larger_than_allowed_is_not_kept(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, seeded: Seeded, size_bytes: int
) -> None:
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with (
            serving_console(settings, ledger, redis, upload_max_bytes=1000) as console,
            console.user_of(seeded.shop) as shop,
        ):
            await shop.see("/upload")
            assert (await put(shop, b"x" * size_bytes)).status == 413
            assert await console.services.blobs.names() == []
    assert await kept(ledger) == []
