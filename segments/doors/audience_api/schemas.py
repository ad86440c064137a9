"""Schemas of the Audience API's requests and answers, in the document's spelling."""
# ruff: noqa: N815 - members are spelled as in the vendor's document

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from segments.doors.live_audience.codes import code_of, description_of
from segments.doors.rest.known_members import KnownForm, Query
from segments.doors.rest.schemas import FileName, Form, PrintableText
from segments.ledger import audiences
from segments.ledger.uploads import Upload
from segments.model import job as jobs_states
from segments.model.audience import Audience
from segments.model.day import S_PER_DAY
from segments.model.explanation import of_job
from segments.model.job import UNFINISHED, Job
from segments.model.order import SegmentAction
from segments.runtime.json_values import WholeNumber, WrittenAs

Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
_Text = BeforeValidator(lambda value: str(value) if type(value) is int else value)
HashType = Annotated[Literal["md5", "sha1", "sha2"], Lower]
_AudienceId = Annotated[
    str, WrittenAs(r"^-?[0-9]{1,20}$", "is not an audience's id: an integer of at most 20 digits")
]


class NewAudience(KnownForm):
    """An audience to create."""

    answered = frozenset({"id"})

    advertiser: Annotated[PrintableText, _Text] = Field(
        max_length=128, description="Your own id; of an agency, a `sub_id` of its."
    )
    externalId: Annotated[PrintableText, _Text] | None = None
    name: PrintableText
    ttl: WholeNumber | None = Field(
        None,
        ge=1,
        le=audiences.MAX_TTL_DAYS * S_PER_DAY,
        description="Seconds that a membership holds, rounded up to days. None: for good.",
    )


class CreatedAudience(Form):
    """The created audience."""

    id: int = Field(description="The `audienceId` of the other operations.")
    advertiser: str
    externalId: str | None = None
    name: str
    ttl: int | None = None


class AudiencePath(Form):
    """Which audience."""

    id: _AudienceId


class AdvertiserQuery(Query):
    """The advertiser, if several sub accounts of an agency have an audience of this id."""

    advertiser: PrintableText | None = None


class UploadForm(KnownForm):
    """A file to come."""

    answered = frozenset({"requestId", "output"})

    filename: FileName
    action: Annotated[SegmentAction, Lower]
    type: HashType


class PresignedURI(Form):
    """The URL to PUT the file to."""

    presignedURI: str


class Presigned(Form):
    """Permission for one upload."""

    requestId: str
    output: PresignedURI


class UploadState(StrEnum):
    """How far an upload is."""

    WAITING = "waiting"  # for the file
    EXPIRED = "expired"  # no file came in time
    QUEUED = "queued"
    PROCESSING = "processing"
    HELD = "held"  # until the operator releases or refuses it
    DONE = "done"
    FAILED = "failed"


_STATES = {
    jobs_states.JobState.QUEUED: UploadState.QUEUED,
    jobs_states.JobState.RUNNING: UploadState.PROCESSING,
    jobs_states.JobState.HELD: UploadState.HELD,
    jobs_states.JobState.DONE: UploadState.DONE,
    jobs_states.JobState.FAILED: UploadState.FAILED,
}


class UploadError(Form):
    """Why a file was not loaded; numbered and worded as in LiveAudience's `.status`."""

    code: str
    description: str


class UploadProgress(Form):
    """The progress or result of a file. Counts are of its lines, never of opted-out persons."""

    audienceId: int
    filename: str
    action: SegmentAction
    type: str
    status: UploadState
    bytes: int | None = None
    records: int | None = None
    badRecords: int | None = None
    processedRecords: int | None = None
    error: UploadError | None = None
    details: dict[str, Any] | None = Field(
        None, description="Counts, the bad lines, and what to do."
    )


class UploadStatus(Form):
    """How far an upload is."""

    requestId: str
    output: UploadProgress


class RequestPath(Form):
    """Which upload."""

    id: Annotated[
        str,
        WrittenAs(
            r"^[0-9]{1,20}\.[0-9]{6}$", "is not a requestId, as POST /audience/upload/{id} gives it"
        ),
    ]


class UploadPath(Form):
    """The path of a presigned URL; all of it is signed."""

    action: str
    key: str
    filename: str


class SignedQuery(Form):
    """The query of a presigned URL; all of it is signed."""

    model_config = ConfigDict(extra="allow")

    signature: str | None = Field(None, alias="X-Amz-Signature")


class RealtimeQuery(Query):
    """The type of the hashes, and the action."""

    type: HashType
    action: Annotated[SegmentAction, Lower] = SegmentAction.ADD
    advertiser: PrintableText | None = None


class RealtimeOutput(Form):
    """The result for the hashes."""

    records: int
    dropped: int | None = Field(
        None, description="Hashes of nothing, and placeholders: no person's. Left out if none."
    )
    status: Literal["applied", "waiting"] = Field(
        description="`waiting`: kept for good, and applied when the store is back."
    )


class RealtimeAnswer(Form):
    """The hashes were taken in."""

    requestId: str
    output: RealtimeOutput


def progress(upload: Upload, audience: Audience, job: Job | None, now_s: float) -> UploadProgress:
    """Return an upload's progress; once its file has arrived, that of its job."""
    said: dict[str, Any] = {
        "audienceId": int(audience.segment_id),
        "filename": upload.file_name,
        "action": upload.action,
        "type": upload.hash_type,
    }
    if job is None:
        state = UploadState.EXPIRED if now_s >= upload.expires_at_s else UploadState.WAITING
        return UploadProgress(**said, status=state)
    report, stop = job.report, job.stop
    return UploadProgress(
        **said,
        status=_STATES[job.state],
        bytes=report.size_bytes,
        records=report.rows,
        badRecords=report.bad,
        processedRecords=report.written,
        details=None if job.state in UNFINISHED else of_job(job) or None,
        error=None
        if stop is None
        else UploadError(code=str(code_of(stop)), description=description_of(stop)),
    )
