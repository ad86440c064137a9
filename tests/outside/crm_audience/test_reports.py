"""
What went wrong with uploads of customer lists and with logins by cookie, by public reports,
tried on ours.

Each test names the report by its URL. The client of the API is `requests`, whose jar keeps
cookies as browsers do.
"""

import asyncio
import codecs
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
import requests

from segments.ingest.crm_audience.columns import columns_of
from segments.ingest.crm_audience.typed_parser import TypedParser
from segments.ingest.text import text_blocks
from segments.model.identity import id_of_email_hash, id_of_phone_hash
from tests.rest import PASSWORD
from tests.segments.doors.crm_audience.crm_world import ALICE, BOB, PHONE, USER, Crm, crm, world

__all__ = ["crm", "world"]  # fixtures

T = TypeVar("T")
IDS = [id_of_email_hash(ALICE), id_of_phone_hash(PHONE), id_of_email_hash(BOB)]


def read(content: bytes) -> tuple[set[bytes], TypedParser]:
    """Return the ids of a file of typed columns, read as a delivery is."""
    blocks = list(text_blocks(iter([content])))
    columns = columns_of(blocks[0])
    assert columns is not None, "a file of typed columns"
    parser = TypedParser(columns, {})
    ids = [parser.feed(block) for block in blocks]
    return {row.tobytes() for row in np.concatenate([*ids, parser.finish()])}, parser


ROWS = [("EMAIL", "PHONE", "Town"), (ALICE, PHONE, "Ede"), (BOB, "", "Ede")]


def csv_by(delimiter: str, rows: Any = ROWS) -> str:
    return "".join(delimiter.join(row) + "\r\n" for row in rows)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_columns_may_stand_between_other_marks_than_commas(delimiter: str) -> None:
    """https://github.com/duckdb/duckdb/issues/15576: the wrong mark, and no error said so."""
    ids, parser = read(csv_by(delimiter).encode())

    assert ids == set(IDS)
    assert (parser.rows, parser.bad) == (2, 0)


def test_excels_word_on_the_delimiter_is_no_header() -> None:
    """https://github.com/shenwei356/csvtk/issues/13: nothing could be read behind it."""
    ids, parser = read(("sep=;\r\n" + csv_by(";")).encode())

    assert ids == set(IDS)
    assert (parser.rows, parser.bad, parser.header_line) == (2, 0, 2)


def test_header_of_each_shard_is_a_header() -> None:
    """https://github.com/biocore/micov/issues/42"""
    ids, parser = read(csv_by(",").encode() * 2)

    assert ids == set(IDS)
    assert (parser.rows, parser.bad, parser.header_rows) == (4, 0, 2)


@pytest.mark.parametrize("null", ["\\N", "NULL", "null", "N/A"])
def test_null_of_a_warehouse_is_an_empty_cell(null: str) -> None:
    """https://github.com/dbt-labs/dbt-external-tables/issues/63: it was a value of its own."""
    ids, parser = read(csv_by(",", [*ROWS[:2], (BOB, null, null)]).encode())

    assert ids == set(IDS)
    assert parser.bad == 0


def test_mark_before_the_header_is_no_part_of_it() -> None:
    """https://github.com/timeseer-ai/kukur/issues/279: the first column was not found."""
    ids, parser = read(codecs.BOM_UTF8 + csv_by(",").encode())

    assert (ids, parser.bad) == (set(IDS), 0)


def test_header_in_utf_16_is_one() -> None:
    """https://github.com/jdunck/python-unicodecsv/issues/74: "line contains NULL byte"."""
    ids, parser = read(codecs.BOM_UTF16_LE + csv_by("\t").encode("utf-16-le"))

    assert (ids, parser.bad) == (set(IDS), 0)


def test_row_with_a_phone_alone_is_a_person() -> None:
    """https://github.com/cluster-software/agent-crm/pull/88: most of an import was dropped."""
    ids, parser = read(csv_by(",", [ROWS[0], ("", PHONE, "")]).encode())

    assert ids == {IDS[1]}
    assert (parser.rows, parser.bad) == (1, 0)


async def by_requests(crm: Crm, do: Callable[[requests.Session, str], T]) -> T:
    """Log in by `requests`, and do something with its session."""
    url = crm.world.rest.url

    def done() -> T:
        with requests.Session() as session:
            said = {"userName": USER, "password": PASSWORD}
            assert session.post(f"{url}/account/login", json=said).status_code == 200
            return do(session, url)

    return await asyncio.to_thread(done)


async def test_cookie_comes_back_on_every_path_without_tls(crm: Crm) -> None:
    """https://github.com/viur-framework/viur-core/pull/961: it was Secure, and kept back; and of
    its path https://github.com/jarrodek/ChromeRestClient/issues/999
    """

    def ask(session: requests.Session, url: str) -> list[int]:
        paths = ("/organisation/loadplatformaccounts", "/campaign/list")
        return [session.get(url + path).status_code for path in paths]

    statuses = await by_requests(crm, ask)

    assert statuses[0] == 200
    assert 401 not in statuses


async def test_cookie_is_of_the_host_that_was_asked(crm: Crm) -> None:
    """https://github.com/fairDataSociety/fairOS-dfs/issues/52: it named a fixed domain."""
    said = {"userName": USER, "password": PASSWORD}

    answer = await crm.world.rest.ask("POST", "/account/login", said)

    assert "domain" not in answer.headers["Set-Cookie"].lower()


async def test_cookie_is_gone_after_a_logout(crm: Crm) -> None:
    """https://github.com/mikkelchokolate/Veil/pull/253: of another path, it stayed."""

    def leave(session: requests.Session, url: str) -> list[str]:
        assert session.post(f"{url}/account/logout", json={}).status_code == 200
        return list(session.cookies.keys())

    assert await by_requests(crm, leave) == []


@pytest.mark.parametrize("zone", ["Z", ".000Z", "+00:00", ".123456Z", "+0000"])
async def test_date_is_the_same_moment_however_its_zone_is_written(crm: Crm, zone: str) -> None:
    """https://github.com/python/cpython/issues/80010, and from JavaScript
    https://github.com/CenterForOpenScience/osf.io/issues/3507
    """
    audience_id = await crm.audience()

    await crm.activate(
        audience_id, startDate=f"2026-01-01T00:00:00{zone}", endDate=f"2099-01-01T00:00:00{zone}"
    )

    loaded = await crm.load(audience_id)
    assert loaded["startDate"].startswith("2026-01-01T00:00:00")
