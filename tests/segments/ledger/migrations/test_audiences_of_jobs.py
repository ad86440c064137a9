"""Revision 0018: jobs that were planned before are found by their audiences."""

import msgspec
from sqlalchemy import select, text

from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.tables import job_audiences
from segments.settings import Settings
from tests.segments.ledger.migrations.former_ledger import (
    add_job,
    add_partner,
    bring_to,
    raw_engine,
)

PLANNED = {
    "segments": [
        {"segment_id": "123", "action": "add", "audience_id": 1, "expiry_day": 0},
        {"segment_id": "123", "action": "remove", "audience_id": 1, "expiry_day": 0},
        {"segment_id": "x", "action": "add", "audience_id": None, "expiry_day": 0},
    ]
}


async def test_jobs_of_the_release_before_have_their_audiences(ledger_settings: Settings) -> None:
    raw = raw_engine(ledger_settings)
    await bring_to(raw, "0017")
    async with raw.begin() as conn:
        await add_partner(conn)
        await conn.execute(
            text(
                "insert into audiences (owner_id, partner_id, segment_id, name, state,"
                " created_at_s, updated_at_s) values (1, 1, '123', 'Shoes', 'active', 0, 0)"
            )
        )
        for name in ("planned", "waiting"):
            await add_job(conn, name, {})
        await conn.execute(
            text("update jobs set report = :report where transaction_id = 'planned'"),
            {"report": msgspec.json.encode(PLANNED).decode()},
        )
    await raw.dispose()

    async with open_ledger(ledger_settings.ledger_dsn) as ledger, reading(ledger) as conn:
        rows = (await conn.execute(select(job_audiences))).all()

    assert sorted(map(tuple, rows)) == [(1, 1, "add"), (1, 1, "remove")]
