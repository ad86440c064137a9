"""Schemas of the operations on audiences, in the spelling of the vendor's OpenAPI document."""
# ruff: noqa: N815 - members are spelled as in the vendor's document

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from segments.doors.rest.known_members import KnownForm, Query
from segments.doors.rest.schemas import FileName, Form, PrintableText
from segments.ledger.audience_list import ListedAudience
from segments.ledger.pages import MAX_CURSOR_CHARS, MAX_LIMIT
from segments.model.audience import AudienceState
from segments.model.job import Job, JobState
from segments.model.order import SegmentAction
from segments.model.partner_numbers import of_file
from segments.runtime.json_values import WholeNumber

DEFAULT_SIZE = 30
MAX_PAGE = 1_000_000
MAX_ID = 2**63 - 1

_Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
PageNumber = Annotated[int, Field(ge=1, le=MAX_PAGE)]
PageSize = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
IdentifierType = Annotated[Literal["md5", "sha1", "sha2", "sha256"], _Lower]


class ApplicationError(Form):
    """The error of a request."""

    httpStatus: int
    message: str
    errorCode: str


class AudienceStatus(StrEnum):
    """Whether an audience is shown in bids."""

    ACTIVE = "Active"
    ARCHIVED = "Archived"
    DELETED = "Deleted"


STATUS_TO_STATE = {
    AudienceStatus.ACTIVE: AudienceState.ACTIVE,
    AudienceStatus.ARCHIVED: AudienceState.DEACTIVATED,
    AudienceStatus.DELETED: AudienceState.DELETED,
}
_STATE_TO_STATUS = {state: status for status, state in STATUS_TO_STATE.items()}


class StatusUpdate(StrEnum):
    """The change of an audience's status."""

    ACTIVATE = "Activate"
    ARCHIVE = "Archive"


class AudienceNumberPath(Form):
    """Which audience."""

    audienceId: int = Field(ge=1, le=MAX_ID, description="Our number; not the segment id of bids.")


class PageQuery(Query):
    """Which page of a list."""

    page: PageNumber = 1
    pageSize: PageSize = DEFAULT_SIZE


class AudiencesQuery(PageQuery):
    """The owner of the audiences, and the page of the list."""

    updatedAfter: int | None = Field(None, ge=0, le=MAX_ID, description="Milliseconds since 1970.")
    accountId: int | None = Field(None, ge=1, le=MAX_ID)


class AccountQuery(Query):
    """The account whose audiences are meant."""

    accountId: int | None = Field(None, ge=1, le=MAX_ID)


class AudienceData(Form):
    """An audience."""

    id: int = Field(description="Our number.")
    segmentId: str = Field(description="As in bid requests.")
    name: str
    accountId: int = Field(description="The owner's number.")
    dataProviderId: int = Field(description="The partner's number: the owner, or its agency.")
    createdAt: datetime
    updatedAt: datetime
    status: AudienceStatus
    metadata: dict[str, Any] = Field({}, description="Always empty: none is kept.")


class AudiencesPage(Form):
    """A page of audiences, newest first."""

    page: int
    pageSize: int
    pages: int
    totalCount: int
    entries: list[AudienceData]


class CreateAudienceRequest(KnownForm):
    """An audience to create."""

    name: PrintableText
    accountId: WholeNumber | None = Field(
        None, ge=1, le=MAX_ID, description="The owner's number; not needed where it is you."
    )
    dataProviderId: WholeNumber | None = Field(
        None, ge=1, le=MAX_ID, description="Your number, or left out."
    )
    metadata: dict[str, Any] = Field({}, max_length=0, description="Must be empty: none is kept.")


class UpdateAudienceRequest(KnownForm):
    """The changes of an audience."""

    answered = frozenset(AudienceData.model_fields)

    name: PrintableText | None = None
    status: StatusUpdate | None = None


class AudienceCountEntry(Form):
    """An audience's count on a day."""

    date: date
    totalCount: int
    matchCount: int = Field(0, description="0: nothing is remembered of bids.")


class AudienceCounts(Form):
    """
    An audience's counts by day, the latest first.

    In hundreds, and left out under 1,000: an exact count would tell of single persons.
    """

    entries: list[AudienceCountEntry]


class UploadProgressStatus(StrEnum):
    """The progress of a file."""

    PENDING = "Pending"
    RUNNING = "Running"
    FINISHED = "Finished"
    ERROR = "Error"


_JOB_TO_STATUS = {
    JobState.QUEUED: UploadProgressStatus.PENDING,
    JobState.RUNNING: UploadProgressStatus.RUNNING,
    JobState.HELD: UploadProgressStatus.PENDING,
    JobState.DONE: UploadProgressStatus.FINISHED,
    JobState.FAILED: UploadProgressStatus.ERROR,
}


class AudienceUpload(Form):
    """A file that changes an audience, by whatever door it came."""

    status: UploadProgressStatus
    action: str
    uploadType: str
    uploadedHashesCount: int
    invalidHashesCount: int
    estimatedDuplicateCount: int
    lastUpdate: datetime
    scheduleAt: datetime = Field(description="When it came.")


class AudienceUploadsPage(Form):
    """A page of an audience's files, newest first."""

    page: int
    pageSize: int
    pages: int
    totalCount: int
    entries: list[AudienceUpload]


class CreateSignedUrlRequest(KnownForm):
    """A file to come."""

    answered = frozenset({"signedUrl"})

    identifierType: IdentifierType
    action: Annotated[SegmentAction, _Lower]
    uploadName: FileName | None = None
    notificationEmail: None = Field(None, description="Must be left out or null: no mail is sent.")


class SignedUploadUrl(Form):
    """The URL to PUT the file to."""

    signedUrl: str


class CursorPage(Form):
    """A page of audiences, newest first."""

    items: list[AudienceData]
    next: str | None = Field(None, description="For the next page; left out at the last.")


def cursor_field() -> Any:
    """Return the member of a request that says where its page begins."""
    return Field(None, max_length=MAX_CURSOR_CHARS, description="`next` of the page before.")


def audience_data(listed: ListedAudience) -> AudienceData:
    """Show an audience."""
    audience = listed.audience
    return AudienceData(
        id=audience.id,
        segmentId=audience.segment_id,
        name=audience.name,
        accountId=audience.owner_id,
        dataProviderId=audience.partner_id,
        createdAt=at(listed.created_at_s),
        updatedAt=at(listed.updated_at_s),
        status=_STATE_TO_STATUS[audience.state],
    )


def upload_data(job: Job, audience_id: int) -> AudienceUpload:
    """Show a file of an audience: counts that the file alone decides."""
    numbers = of_file(job.report)
    changes = [p.action for p in job.report.segments if p.audience_id == audience_id]
    actions = changes or [segment.action for segment in job.order.segments]
    changed_at_s = job.finished_at_s or job.started_at_s or job.created_at_s
    return AudienceUpload(
        status=_JOB_TO_STATUS[job.state],
        action=actions[-1].value,
        uploadType=job.report.hash_type or job.order.hash_type or "ids",
        uploadedHashesCount=numbers.lines,
        invalidHashesCount=numbers.bad,
        estimatedDuplicateCount=numbers.duplicates,
        lastUpdate=at(changed_at_s),
        scheduleAt=at(job.created_at_s),
    )


def at(unix_s: float) -> datetime:
    """Return a unix time as a time in UTC, in milliseconds."""
    return datetime.fromtimestamp(round(unix_s, 3), UTC)


def pages_of(total: int, size: int) -> int:
    """Return the number of pages."""
    return -(-total // size)
