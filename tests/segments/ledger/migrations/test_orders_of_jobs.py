"""
Revision 0009: a job's row says what is asked for in our words, whoever wrote the row.

What stands here as a form is what release 9efd25f kept of a job, to the letter.
"""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import jobs
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.migrations.forms_before_0009 import metadata_of, order_of
from segments.model.job import Job
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.settings import Settings
from tests.segments.ledger.migrations.former_ledger import (
    add_job,
    add_partner,
    bring_to,
    raw_engine,
)
from tests.segments.ledger.some_jobs import NOW_S, added_partners

LIVE_AUDIENCE = {
    "partner_id": "c9eefe7ba1861a601d01a0f3e8f25573",
    "sub_id": "476378",
    "file": {
        "name": "a.txt",
        "hash": "sha1",
        "digest": "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709",
        "date": "2026-01-01",
        "records": 10,
    },
    "segments": [
        {"id": "123", "name": "Shoes", "action": "add"},
        {"id": "x", "name": "No number", "action": "remove"},
    ],
    "callback_url": "https://partner.example/done",
}
UPLOAD = {
    "form": "audience_file",
    "request_id": "1767225600.000001",
    "audience_id": 7,
    "segment_id": "123",
    "action": "remove",
    "hash_type": "sha2",
    "max_removed_share": None,
}
DIFFERENTIAL_RUN = {
    "form": "external_run",
    "run_id": "0d9e5b6e-0001",
    "audience_id": 8,
    "segment_id": "456",
    "replaces": False,
}
REPLACING_RUN = {**DIFFERENTIAL_RUN, "replaces": True, "max_removed_share": 0.25}

FORM_TO_ORDER = {
    "live_audience": Order(
        (
            SegmentOrder("123", "Shoes", SegmentAction.ADD),
            SegmentOrder("x", "No number", SegmentAction.REMOVE),
        ),
        digest_algorithm="sha1",
        digest="da39a3ee5e6b4b0d3255bfef95601890afd80709",
        records=10,
    ),
    "upload": Order((SegmentOrder("123", "", SegmentAction.REMOVE, 7),), hash_type="sha2"),
    "differential_run": Order(
        (SegmentOrder("456", "", SegmentAction.ADD, 8),), run_id="0d9e5b6e-0001"
    ),
    "replacing_run": Order(
        (SegmentOrder("456", "", SegmentAction.ADD, 8),),
        max_removed_share=0.25,
        run_id="0d9e5b6e-0001",
        replaces=True,
    ),
}
FORMS: dict[str, dict[str, Any]] = {
    "live_audience": LIVE_AUDIENCE,
    "upload": UPLOAD,
    "differential_run": DIFFERENTIAL_RUN,
    "replacing_run": REPLACING_RUN,
}


async def orders(ledger: AsyncEngine) -> dict[str, Order]:
    async with reading(ledger) as conn:
        return {job.file_name: job.order for job in await jobs.jobs(conn, 10_000)}


async def test_jobs_of_the_release_before_keep_what_they_ask_for(
    ledger_settings: Settings,
) -> None:
    raw = raw_engine(ledger_settings)
    await bring_to(raw, "0008")
    async with raw.begin() as conn:
        await add_partner(conn)
        for name, form in FORMS.items():
            await add_job(conn, name, form)

    async with open_ledger(ledger_settings.ledger_dsn) as ledger:
        found = await orders(ledger)
        async with raw.connect() as conn:
            unfilled = await conn.scalar(text('select count(*) from jobs where "order" is null'))
    await raw.dispose()

    assert found == FORM_TO_ORDER
    assert unfilled == 0


async def test_every_job_of_many_pages_is_filled_in(ledger_settings: Settings) -> None:
    raw = raw_engine(ledger_settings)
    await bring_to(raw, "0008")
    async with raw.begin() as conn:
        await add_partner(conn)
        for number in range(2500):
            await add_job(conn, str(number), {**UPLOAD, "audience_id": number + 1})
    await raw.dispose()

    async with open_ledger(ledger_settings.ledger_dsn) as ledger:
        found = await orders(ledger)

    assert [order.segments[0].audience_id for order in found.values()] == list(range(2500, 0, -1))


async def test_job_that_a_process_of_the_release_before_adds_afterwards_is_read(
    ledger_settings: Settings,
) -> None:
    raw = raw_engine(ledger_settings)
    async with open_ledger(ledger_settings.ledger_dsn) as ledger:
        async with raw.begin() as conn:
            await add_partner(conn)
            for name, form in FORMS.items():
                await add_job(conn, name, form)

        found = await orders(ledger)
    await raw.dispose()

    assert found == FORM_TO_ORDER


async def submitted(ledger: AsyncEngine, order: Order, request_id: str | None) -> Job:
    [partner_id, _] = await added_partners(ledger)
    async with ledger.begin() as conn:
        return await jobs.submit(
            conn,
            door="test",
            partner_id=partner_id,
            owner_id=partner_id,
            order=order,
            blob="blob",
            sha256="",
            file_name="a.txt",
            now_s=NOW_S,
            request_id=request_id,
        )


@pytest.mark.parametrize(
    ("name", "request_id"),
    [
        pytest.param("upload", UPLOAD["request_id"], id="upload"),
        pytest.param("differential_run", None, id="differential run"),
        pytest.param("replacing_run", None, id="replacing run"),
    ],
)
async def test_process_of_the_release_before_finds_in_our_rows_what_it_looks_for(
    ledger: AsyncEngine, name: str, request_id: str | None
) -> None:
    """
    It takes a row without it for LiveAudience's, and ends with the row's job.
    """
    job = await submitted(ledger, FORM_TO_ORDER[name], request_id)

    assert job.metadata == {"max_removed_share": None, **FORMS[name]}
    assert job.order == FORM_TO_ORDER[name]


@pytest.mark.parametrize("name", ["upload", "differential_run", "replacing_run"])
def test_both_ways_between_form_and_order_lead_back(name: str) -> None:
    order = order_of(FORMS[name])

    assert order_of(metadata_of(order, "1")) == order
