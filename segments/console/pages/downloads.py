"""
Downloads beside pages: lists as CSV, a delivery's report, its bad lines, its status file.

Each holds only what its page shows to the same visitor: facts that the file alone decides, an
audience's rounded counts (`segments.model.partner_numbers`), numbers and reasons of bad lines. No
file holds a person's id or hash.

Each download leaves a row in the audit trail.
"""

from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web

from segments.acts.downloads import note_download
from segments.console.application import Page
from segments.console.faults import Lost
from segments.console.file_answers import MAX_ROWS, Cell, csv_of, file_of, time_of
from segments.console.pages import audience_list, deliveries
from segments.console.pages.audience_list import ListRow
from segments.console.pages.deliveries import Row, account_of, job_of
from segments.console.visit import Visit
from segments.doors.live_audience.status import is_described, status_of
from segments.doors.partner_api.schemas import delivery_in_full
from segments.ledger import accounts
from segments.ledger.pages import MAX_LIMIT
from segments.model.account import Account
from segments.model.job import Job
from segments.model.role import Role

_AUDIENCES = (
    "number", "segment id", "your id", "name", "account", "in bids", "holds for days",
    "members, in hundreds", "counted", "last delivery", "its state",
)  # fmt: skip
_DELIVERIES = (
    "received", "transaction", "file", "state", "by", "partner", "does", "audiences",
    "lines", "bad", "duplicates", "persons", "what to do",
)  # fmt: skip


def download_pages() -> list[Page]:
    """Return the pages."""
    partner, operator = (Role.PARTNER,), (Role.OPERATOR,)
    pages = [
        Page("GET", "/audiences.csv", audiences_csv, partner),
        Page("GET", "/deliveries.csv", deliveries_csv, partner),
        Page("GET", "/ops/deliveries.csv", deliveries_csv, operator),
    ]
    for base, roles in (("/deliveries", partner), ("/ops/deliveries", operator)):
        delivery = base + "/{transaction}"
        pages += [
            Page("GET", f"{delivery}/report.json", report_json, roles),
            Page("GET", f"{delivery}/bad-lines.csv", bad_lines_csv, roles),
            Page("GET", f"{delivery}/status", status, roles),
        ]
    return pages


async def audiences_csv(visit: Visit) -> web.Response:
    """Answer with the list of audiences that the URL asks for."""
    found: list[ListRow] = []
    owners: dict[int, str] = {}
    cursor: str | None = ""
    while cursor is not None and len(found) < MAX_ROWS:
        page = await audience_list.listing(visit, cursor or None, MAX_LIMIT)
        found += page.rows
        owners, cursor = page.owners, page.next_cursor
    rows = [_audience(each, owners) for each in found]
    await _note(visit, "audiences.csv", visit.account, rows=len(rows))
    return csv_of("audiences", _AUDIENCES, rows, is_cut=cursor is not None)


async def deliveries_csv(visit: Visit) -> web.Response:
    """Answer with the list of deliveries that the URL asks for."""
    found: list[Row] = []
    cursor: str | None = ""
    while cursor is not None and len(found) < MAX_ROWS:
        page = await deliveries.listing(visit, cursor or None, MAX_LIMIT)
        found += page.rows
        cursor = page.next_cursor
    rows = [_delivery(each) for each in found]
    await _note(visit, "deliveries.csv", account_of(visit), rows=len(rows))
    return csv_of("deliveries", _DELIVERIES, rows, is_cut=cursor is not None)


async def report_json(visit: Visit) -> web.Response:
    """Answer with a delivery as the API shows it; to operators with the exact counts."""
    job = await _job(visit, "report.json")
    report: dict[str, Any] = delivery_in_full(job).model_dump(mode="json", exclude_none=True)
    if account_of(visit) is None:
        counts = ("added", "renewed", "removed", "unchanged", "refused")
        report["counts"] = {name: getattr(job.report, name) for name in counts}
    body = orjson.dumps(report, option=orjson.OPT_INDENT_2)
    return file_of(f"{job.transaction_id}.json", body, "application/json")


async def bad_lines_csv(visit: Visit) -> web.Response:
    """Answer with the numbers of the bad lines that are kept: the first of each reason."""
    job = await _job(visit, "bad-lines.csv")
    rows = [
        (line.number, line.reason.value, line.reason.in_words)
        for line in sorted(job.report.bad_lines)
    ]
    name = f"{job.transaction_id}-bad-lines"
    return csv_of(name, ("line", "reason", "because it"), rows, is_cut=False)


async def status(visit: Visit) -> web.Response:
    """Answer with the `.status` file, where the delivery came with metadata."""
    job = await _job(visit, "status")
    return file_of(f"{job.transaction_id}.status", status_of(job), "application/json")


async def _job(visit: Visit, file: str) -> Job:
    """Return the delivery of the URL, and note the download in the trail."""
    async with visit.console.services.ledger.begin() as conn:
        job = await job_of(visit, conn)
        if file == "status" and not is_described(job):
            raise Lost
        owner = await accounts.account(conn, job.owner_id)
        await note_download(conn, visit.by, f"delivery {job.transaction_id}/{file}", owner)
    return job


async def _note(visit: Visit, file: str, scope: Account | None, *, rows: int) -> None:
    async with visit.console.services.ledger.begin() as conn:
        await note_download(conn, visit.by, file, scope, rows=rows)


def _audience(row: ListRow, owners: dict[int, str]) -> Iterable[Cell]:
    audience, numbers = row.listed.audience, row.numbers
    return (
        audience.id,
        audience.segment_id,
        row.listed.external_id,
        audience.name,
        owners.get(audience.owner_id),
        row.shown.word,
        audience.ttl_days,
        None if numbers is None else numbers.members,
        None if numbers is None else time_of(numbers.counted_at_s),
        None if row.job is None else row.job.transaction_id,
        None if row.job is None else row.job.state.value,
    )


def _delivery(row: Row) -> Iterable[Cell]:
    return (
        time_of(row.job.created_at_s),
        row.job.transaction_id,
        row.job.file_name,
        row.job.state.value,
        row.by,
        row.partner,
        row.does,
        "; ".join(row.targets),
        row.numbers.lines,
        row.numbers.bad,
        row.numbers.duplicates,
        row.numbers.persons,
        row.told,
    )
