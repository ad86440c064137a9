"""Schemas of the data that partners read of their own: deliveries, recipients, the trail."""
# ruff: noqa: N815 - members are spelled as in the vendors' documents

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from segments.doors.rest.known_members import Query
from segments.doors.rest.schemas import Form, PrintableText
from segments.ledger.pages import DEFAULT_LIMIT, MAX_CURSOR_CHARS, MAX_LIMIT
from segments.ledger.privacy.audit_list import ListedEntry
from segments.ledger.recipients import Recipient
from segments.model.explanation import bad_lines_by_reason, told_stop
from segments.model.job import Job, JobState, Planned
from segments.model.order import SegmentAction
from segments.model.partner_numbers import of_file
from segments.model.record import NO_EXPIRY, began_at_s
from segments.runtime.json_values import WrittenAs

_MAX_ID = 2**63 - 1
_UNTOLD_DETAIL = "held_because"  # in numbers of members


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


Moment = Annotated[
    datetime,
    AfterValidator(_in_utc),
    Field(description="ISO 8601, in UTC unless it says otherwise; or Unix seconds."),
]


class ListQuery(Query):
    """Which page of a list."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(
        None, max_length=MAX_CURSOR_CHARS, description="`next` of the page before."
    )


class DeliveriesQuery(ListQuery):
    """The wanted deliveries."""

    state: tuple[JobState, ...] = Field((), description="Any of these; may be repeated.")
    audience: int | None = Field(None, ge=1, le=_MAX_ID, description="An audience's number.")
    since: Moment | None = None
    until: Moment | None = None
    q: PrintableText | None = Field(
        None, description="A part of the file's name, or a transaction id."
    )


class AuditQuery(ListQuery):
    """Which entries of the trail."""

    actor: PrintableText | None = None
    what: PrintableText | None = None
    result: PrintableText | None = None
    since: Moment | None = None
    until: Moment | None = None


class TransactionPath(Form):
    """Which delivery."""

    transactionId: Annotated[str, WrittenAs(r"^[0-9]{1,32}$", "is not a transaction id: digits")]


class DeliveredSegment(Form):
    """An audience that a delivery changes."""

    audienceId: int | None = Field(
        None, description="Our number; left out where the segment was rejected."
    )
    segmentId: str
    action: SegmentAction
    holdsUntil: date | None = Field(
        None, description="The last day of what was added; left out: for good."
    )


class Stages(Form):
    """When a delivery's stages ended."""

    received: datetime
    started: datetime | None = None
    read: datetime | None = None
    checked: datetime | None = Field(None, description="It removes no more than it may.")
    written: datetime | None = None
    finished: datetime | None = Field(None, description="Done: each later bid shows it.")


class Stop(Form):
    """The reason of a failed delivery."""

    reason: str
    message: str | None = None
    whatToDo: str


class BadLines(Form):
    """The bad lines of one reason."""

    count: int
    first: list[int] = Field(description="Numbers of the first of them.")
    because: str


class Delivery(Form):
    """The state of a delivered file. Its numbers are those that the file alone decides."""

    transactionId: str
    file: str
    door: str
    state: JobState
    segments: list[DeliveredSegment]
    sizeBytes: int
    hashType: str | None = None
    lines: int
    badLines: int
    duplicates: int
    persons: int = Field(description="That the file names; so far, while it is written.")
    share: float | None = Field(None, description="Of the lines, written; while it runs.")
    remainingS: float | None = Field(None, description="Seconds, at this rate.")
    stages: Stages
    stop: Stop | None = None
    held: str | None = Field(None, description="What it waits for.")


class DeliveryInFull(Delivery):
    """A delivery, with its bad lines by reason."""

    badByReason: dict[str, BadLines]


class Deliveries(Form):
    """A page of deliveries, newest first."""

    items: list[Delivery]
    next: str | None = Field(None, description="For the next page; left out at the last.")


class RecipientView(Form):
    """A recipient of a partner's segments."""

    name: str


class Recipients(Form):
    """A page of recipients, by name."""

    items: list[RecipientView]
    next: str | None = None


class AuditEntry(Form):
    """An act on an account's own object."""

    at: datetime
    actor: str
    name: str | None = Field(None, description="Of the actor, if it is one of yours.")
    what: str
    target: str | None = None
    result: str
    reason: str | None = None
    detail: dict[str, Any] | None = None


class AuditEntries(Form):
    """A page of the trail, newest first."""

    items: list[AuditEntry]
    next: str | None = None


def delivery(job: Job) -> Delivery:
    """Show a delivery."""
    return Delivery(**_said(job))


def delivery_in_full(job: Job) -> DeliveryInFull:
    """Show a delivery with its bad lines."""
    report = job.report
    first = bad_lines_by_reason(report)
    by_reason = {
        reason.value: BadLines(
            count=report.bad_by_reason.get(reason, len(numbers)),
            first=numbers,
            because=reason.in_words,
        )
        for reason, numbers in first.items()
    }
    return DeliveryInFull(**_said(job), badByReason=by_reason)


def recipient(shown: Recipient) -> RecipientView:
    """Show a recipient."""
    return RecipientView(name=shown.name)


def audit_entry(entry: ListedEntry, account_id: int) -> AuditEntry:
    """Show an act to an account, without the names of other accounts' credentials."""
    detail = {name: said for name, said in (entry.detail or {}).items() if name != _UNTOLD_DETAIL}
    return AuditEntry(
        at=_at(entry.at_s),
        actor=entry.actor,
        name=entry.actor_name if entry.account_id == account_id else None,
        what=entry.what,
        target=entry.target,
        result=entry.result,
        reason=entry.reason,
        detail=detail or None,
    )


def _said(job: Job) -> dict[str, Any]:
    report, numbers = job.report, of_file(job.report)
    is_running = job.state is JobState.RUNNING
    stop = told_stop(job)
    return {
        "transactionId": job.transaction_id,
        "file": job.file_name,
        "door": job.door,
        "state": job.state,
        "segments": _segments(job),
        "sizeBytes": job.delivered_bytes or report.size_bytes,
        "hashType": report.hash_type or job.order.hash_type,
        "lines": numbers.lines,
        "badLines": numbers.bad,
        "duplicates": numbers.duplicates,
        "persons": numbers.persons,
        "share": report.written / report.valid if is_running and report.valid else None,
        "remainingS": report.remaining_s if is_running else None,
        "stages": Stages(
            received=_at(job.created_at_s),
            started=_when(job.started_at_s),
            read=_when(report.read_at_s),
            checked=_when(report.checked_at_s),
            written=_when(report.written_at_s),
            finished=_when(job.finished_at_s),
        ),
        "stop": None
        if stop is None
        else Stop(reason=stop["reason"], message=stop.get("message"), whatToDo=stop["what_to_do"]),
        "held": "an operator has to let it go on" if job.state is JobState.HELD else None,
    }


def _segments(job: Job) -> list[DeliveredSegment]:
    """Return a job's segments as planned; before that, as ordered."""
    planned = job.report.segments or [
        Planned(segment.segment_id, segment.action, segment.audience_id)
        for segment in job.order.segments
    ]
    return [
        DeliveredSegment(
            audienceId=each.audience_id,
            segmentId=each.segment_id,
            action=each.action,
            holdsUntil=None
            if each.expiry_day == NO_EXPIRY
            else _at(began_at_s(each.expiry_day)).date(),
        )
        for each in planned
    ]


def _when(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else _at(unix_s)


def _at(unix_s: float) -> datetime:
    return datetime.fromtimestamp(round(unix_s, 3), UTC)
