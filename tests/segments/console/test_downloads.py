"""Files beside pages: what the page shows to the same visitor, and no more."""

import csv
import io
import json
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.console import file_answers
from segments.console.pages import downloads
from segments.ledger.privacy.audit import entries
from segments.ledger.tables import audiences as audiences_table
from segments.ledger.tables import jobs as jobs_table
from segments.model.job import BadLine, BadLineReason, JobState
from segments.model.record import day_of
from segments.model.role import Role
from tests.console import Served, Shown
from tests.ledger_seed import Seeded
from tests.segments.console.test_pages import BRAKE, count, delivery

COUNTS: dict[str, Any] = {
    "added": 7001,
    "renewed": 7002,
    "removed": 7003,
    "unchanged": 7004,
    "refused": 7005,
}
FORMULA = '=HYPERLINK("http://evil.example")'


def rows_of(shown: Shown) -> list[dict[str, str]]:
    assert shown.status == 200, shown.text
    assert shown.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert shown.headers["Content-Disposition"].startswith("attachment; filename=")
    return list(csv.DictReader(io.StringIO(shown.text)))


async def taken(ledger: AsyncEngine) -> list[tuple[str, str, int | None, Any]]:
    """The rows of downloads in the trail."""
    async with ledger.connect() as conn:
        return [
            (row["actor_name"], row["target"], row.get("scope_id"), row.get("detail"))
            async for row in entries(conn)
            if row["what"] == "download"
        ]


async def test_lists_are_files_of_what_their_pages_show(
    console: Served, seeded: Seeded, ledger: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        await delivery(ledger, seeded, JobState.DONE, name=f"{n}.txt", rows=9, bad=2, **COUNTS)
    await delivery(ledger, seeded, JobState.HELD, name=FORMULA, held_because=BRAKE)
    await count(ledger, seeded, day_of(console.clock()), 123_456)
    async with ledger.begin() as conn:
        await conn.execute(update(audiences_table).values(name=FORMULA))
    async with console.user_of(seeded.shop) as shop, console.staff_of(Role.OPERATOR) as ada:
        audiences = await shop.see("/audiences.csv")
        every = await shop.see("/deliveries.csv")
        done = rows_of(await shop.see("/deliveries.csv?state=done&q=1.txt"))
        operators = rows_of(await ada.see("/ops/deliveries.csv"))
        page = await shop.see("/deliveries?state=done&q=1.txt")
        for module in (downloads, file_answers):
            monkeypatch.setattr(module, "MAX_ROWS", 2)
        monkeypatch.setattr(downloads, "MAX_LIMIT", 1)
        cut = await shop.see("/deliveries.csv")
    assert "/deliveries.csv?state=done&amp;q=1.txt" in page.text
    (shoes,) = rows_of(audiences)
    assert (shoes["segment id"], shoes["name"]) == ("123", f"'{FORMULA}")
    assert shoes["members, in hundreds"] in {"123400", "123500"}
    assert "123456" not in audiences.text
    assert [row["file"] for row in rows_of(every)] == [f"'{FORMULA}", "2.txt", "1.txt", "0.txt"]
    assert rows_of(every)[0]["what to do"].startswith("It would remove so many members that an")
    told = str([{**row, "transaction": ""} for row in rows_of(every)])  # whose digits are by chance
    assert not [number for number in (*COUNTS.values(), 971) if str(number) in told]
    assert [(row["file"], row["lines"], row["bad"]) for row in done] == [("1.txt", "9", "2")]
    assert [row["partner"] for row in operators] == ["shop"] * 4
    shops, all_ = seeded.shop.id, None
    assert await taken(ledger) == [
        (f"user-{shops}", "audiences.csv", shops, {"rows": 1}),
        (f"user-{shops}", "deliveries.csv", shops, {"rows": 4}),
        (f"user-{shops}", "deliveries.csv", shops, {"rows": 1}),
        ("staff-operator", "deliveries.csv", all_, {"rows": 4}),
        (f"user-{shops}", "deliveries.csv", shops, {"rows": 2}),
    ]
    assert "971" in operators[0]["what to do"]
    assert len(rows_of(cut)) == 2
    assert 'filename="deliveries-first-2.csv"' in cut.headers["Content-Disposition"]


async def test_a_delivery_is_had_as_files_and_another_s_is_not(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    bad = (BadLine(17, BadLineReason.EMAIL_ADDRESS), BadLine(3, BadLineReason.TOO_LONG))
    by_reason = {BadLineReason.EMAIL_ADDRESS: 3, BadLineReason.TOO_LONG: 1}
    job = await delivery(
        ledger, seeded, JobState.DONE, rows=100, bad=4, bad_lines=bad, bad_by_reason=by_reason,
        **COUNTS,
    )  # fmt: skip
    at = f"/deliveries/{job.transaction_id}"
    metadata = {"partner_id": "shop", "file": "file.txt", "segments": [{"id": "123"}]}
    async with (
        console.user_of(seeded.shop) as shop,
        console.user_of(seeded.agency) as agency,
        console.staff_of(Role.OPERATOR) as ada,
    ):
        report = json.loads((await shop.see(f"{at}/report.json")).text)
        lines = rows_of(await shop.see(f"{at}/bad-lines.csv"))
        exact = json.loads((await ada.see(f"/ops{at}/report.json")).text)
        for name in ("report.json", "bad-lines.csv", "status"):
            assert (await agency.see(f"{at}/{name}")).status == 404, name
        assert (await shop.see(f"{at}/status")).status == 404  # it came without metadata
        assert "Status file" not in (await shop.see(at)).said
        async with ledger.begin() as conn:
            await conn.execute(update(jobs_table).values(metadata=metadata))
        status = json.loads((await shop.see(f"{at}/status")).text)
        assert "Status file" in (await shop.see(at)).said
    assert (report["lines"], report["badByReason"]["email_address"]["count"]) == (100, 3)
    assert "counts" not in report
    assert exact["counts"] == COUNTS
    assert [(row["line"], row["reason"]) for row in lines] == [
        ("3", "too_long"),
        ("17", "email_address"),
    ]
    assert status["file"] == "file.txt"
    files = [file for _, file, _, _ in await taken(ledger)]
    names = ("report.json", "bad-lines.csv", "report.json", "status")
    assert files == [f"delivery {job.transaction_id}/{name}" for name in names]
