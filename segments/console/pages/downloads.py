"""
Downloads beside pages: lists as CSV, a delivery's report, its bad lines, its status file.

Each holds what its page shows to the same visitor, and no more: of a file what the file alone
decides, of an audience rounded counts (`segments.model.partner_numbers`). Bad lines are numbers
and reasons; what stood in them is not kept. No file holds a person's id or hash.

Names are others' words, and spreadsheets run a cell that looks like a formula, so such a cell has
an apostrophe before it.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from segments.console.application import Page
from segments.console.faults import Lost
from segments.console.pages import audience_list, deliveries
from segments.console.pages.audience_list import ListRow
from segments.console.pages.deliveries import Row, account_of, job_of
from segments.console.visit import Visit
from segments.doors.live_audience.status import is_described, status_of
from segments.doors.partner_api.schemas import delivery_in_full
from segments.ledger.database.engine import reading
from segments.ledger.pages import MAX_LIMIT
from segments.model.job import Job
from segments.model.role import Role

MAX_ROWS = 10_000
"""Of a list; the file's name says if there are more."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_AUDIENCES = (
    "number", "segment id", "your id", "name", "account", "in bids", "holds for days",
    "members, in hundreds", "counted", "last delivery", "its state",
)  # fmt: skip
_DELIVERIES = (
    "received", "transaction", "file", "state", "by", "partner", "does", "audiences",
    "lines", "bad", "duplicates", "persons", "what to do",
)  # fmt: skip

Cell = str | int | None


def download_pages() -> list[Page]:
    """Return the pages of this module."""
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
    return _csv("audiences", _AUDIENCES, rows, is_cut=cursor is not None)


async def deliveries_csv(visit: Visit) -> web.Response:
    """Answer with the list of deliveries that the URL asks for."""
    found: list[Row] = []
    cursor: str | None = ""
    while cursor is not None and len(found) < MAX_ROWS:
        page = await deliveries.listing(visit, cursor or None, MAX_LIMIT)
        found += page.rows
        cursor = page.next_cursor
    rows = [_delivery(each) for each in found]
    return _csv("deliveries", _DELIVERIES, rows, is_cut=cursor is not None)


async def report_json(visit: Visit) -> web.Response:
    """Answer with a delivery as the API shows it; to operators with the exact counts."""
    job = await _job(visit)
    report: dict[str, Any] = delivery_in_full(job).model_dump(mode="json", exclude_none=True)
    if account_of(visit) is None:
        counts = ("added", "renewed", "removed", "unchanged", "refused")
        report["counts"] = {name: getattr(job.report, name) for name in counts}
    body = orjson.dumps(report, option=orjson.OPT_INDENT_2)
    return _file(f"{job.transaction_id}.json", body, "application/json")


async def bad_lines_csv(visit: Visit) -> web.Response:
    """Answer with the numbers of the bad lines that are kept: the first of each reason."""
    job = await _job(visit)
    rows = [
        (line.number, line.reason.value, line.reason.in_words)
        for line in sorted(job.report.bad_lines)
    ]
    name = f"{job.transaction_id}-bad-lines"
    return _csv(name, ("line", "reason", "because it"), rows, is_cut=False)


async def status(visit: Visit) -> web.Response:
    """Answer with the `.status` file, where the delivery came with metadata."""
    job = await _job(visit)
    if not is_described(job):
        raise Lost
    return _file(f"{job.transaction_id}.status", status_of(job), "application/json")


async def _job(visit: Visit) -> Job:
    async with reading(visit.console.services.ledger) as conn:
        return await job_of(visit, conn)


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
        None if numbers is None else _time(numbers.counted_at_s),
        None if row.job is None else row.job.transaction_id,
        None if row.job is None else row.job.state.value,
    )


def _delivery(row: Row) -> Iterable[Cell]:
    return (
        _time(row.job.created_at_s),
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


def _csv(
    name: str, head: Sequence[str], rows: Iterable[Iterable[Cell]], *, is_cut: bool
) -> web.Response:
    written = io.StringIO()
    writer = csv.writer(written)  # RFC 4180: CRLF
    writer.writerow(head)
    for row in rows:
        writer.writerow([_cell(each) for each in row])
    name = f"{name}-first-{MAX_ROWS}" if is_cut else name
    return _file(f"{name}.csv", written.getvalue().encode(errors="replace"), "text/csv")


def _cell(value: Cell) -> Cell:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _file(name: str, body: bytes, media_type: str) -> web.Response:
    return web.Response(
        body=body,
        content_type=media_type,
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
