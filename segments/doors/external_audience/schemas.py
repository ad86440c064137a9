"""
Requests and answers of Adobe's external audiences endpoint.

From the document and, where its tables are lost, from the vendor's published reference.
Three members are ours: `segmentId` (the id that bid requests show), `error` and `message`.
"""
# ruff: noqa: N815 - members are spelled as in the vendor's document

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from segments.doors.external_audience.run_filter import WrongFilter, run_filter
from segments.doors.rest.known_members import KnownForm, Query
from segments.doors.rest.schemas import Form, PrintableText
from segments.files.base_connection import MAX_PATH_CHARS, checked_path
from segments.ledger.external_audience.audiences import Status
from segments.runtime.json_values import WholeNumber, WrittenAs

DEFAULT_TTL_DAYS = 30
MAX_TTL_DAYS = 90
DEFAULT_NAMESPACE = "CustomerAudienceUpload"
MAX_FIELDS = 500
MAX_LABELS = 100
_MAX_AT_S = 10**11 - 1
"""A larger Unix time must be in milliseconds, and would select no file."""


def _path(text: str) -> str:
    try:
        return checked_path(text)
    except ValueError as error:
        why = str(error)
    raise PydanticCustomError("path", "{why}", {"why": f"is {why}"})


def _prose(text: str) -> str:
    if any(not char.isprintable() and char not in "\n\r\t" for char in text):
        raise PydanticCustomError("unprintable", "has characters that can't be printed")
    return text


TtlInDays = Annotated[WholeNumber, Field(ge=1, le=MAX_TTL_DAYS)]
Labels = Annotated[tuple[PrintableText, ...], Field(max_length=MAX_LABELS)]
Description = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_prose)]
Seconds = Annotated[WholeNumber, Field(ge=0, le=_MAX_AT_S, description="Unix time in seconds.")]
_Namespace = Annotated[
    str,
    WrittenAs(
        r"^[A-Za-z0-9_.-]{1,64}$",
        "is not a namespace: at most 64 letters, digits, points, hyphens and underscores",
    ),
]


class FieldForm(Form):
    """A column of the customer's files."""

    name: PrintableText
    type: Literal["string", "number", "long", "integer", "date", "datetime", "boolean"]
    identityNs: _Namespace | None = Field(
        None,
        description="`email`, `ECID`, `IDFA`, `GAID` or another namespace: the column identifies.",
    )
    labels: Labels | None = None


class SourceParams(Form):
    """Where the files lie, below a base connection."""

    path: Annotated[str, StringConstraints(max_length=MAX_PATH_CHARS + 1), AfterValidator(_path)]
    type: Literal["file", "folder"]
    sourceType: Literal["Cloud Storage"] | None = None
    cloudType: Literal["S3", "DLZ", "GCS", "Azure", "SFTP"] | None = None
    baseConnectionId: PrintableText | None = Field(
        None, description="Left out: the sandbox's only base connection."
    )


class NestedSourceSpec(Form):
    """The same, nested."""

    params: SourceParams


def _which_spec(spec: Any) -> str:
    is_nested = "params" in spec if isinstance(spec, dict) else isinstance(spec, NestedSourceSpec)
    return "nested" if is_nested else "flat"


SourceSpec = Annotated[
    Annotated[SourceParams, Tag("flat")] | Annotated[NestedSourceSpec, Tag("nested")],
    Discriminator(_which_spec),  # so that errors are about a single form
]


class AudienceDetails(Form):
    """An external audience, as requested."""

    name: PrintableText
    description: Description | None = None
    customAudienceId: PrintableText | None = None
    fields: tuple[FieldForm, ...] = Field(min_length=1, max_length=MAX_FIELDS)
    sourceSpec: SourceSpec
    ttlInDays: TtlInDays = DEFAULT_TTL_DAYS
    audienceType: Literal["people"] = "people"
    originName: Literal["CUSTOM_UPLOAD"]
    namespace: PrintableText = DEFAULT_NAMESPACE
    labels: Labels | None = None
    tags: Labels | None = None

    @property
    def source(self) -> SourceParams:
        """The source of the files, in either form of `sourceSpec`."""
        spec = self.sourceSpec
        return spec.params if isinstance(spec, NestedSourceSpec) else spec


class Created(Form):
    """The creation has begun."""

    operationId: str
    operationDetails: AudienceDetails


class OperationStatus(Form):
    """The progress of a creation."""

    operationId: str
    status: Status
    operationDetails: AudienceDetails
    audienceName: str
    audienceId: str | None = None
    segmentId: str | None = Field(None, description="Its id in bid requests.")
    error: str | None = None
    createdBy: str
    createdAt: int
    updatedBy: str
    updatedAt: int


class FieldChange(Form):
    """A field whose labels change. Its other members must be unchanged."""

    name: PrintableText
    type: str | None = None
    identityNs: str | None = None
    labels: Labels | None = None


_Fixed = Annotated[Any, Field(description="Can't be changed: as it is, or left out.")]


class AudienceChange(KnownForm):
    """
    The members of an external audience that can be changed; given members replace the present ones.

    Null clears a description or labels. Other members may be sent back unchanged.
    """

    answered = frozenset({"createdBy", "createdAt", "updatedBy", "updatedAt"})
    changeable: ClassVar = ("description", "labels", "fields", "ttlInDays")

    description: Description | None = None
    labels: Labels | None = None
    fields: tuple[FieldChange, ...] = Field((), max_length=MAX_FIELDS)
    ttlInDays: TtlInDays = DEFAULT_TTL_DAYS
    name: _Fixed = None
    audienceName: _Fixed = None
    audienceId: _Fixed = None
    segmentId: _Fixed = None
    customAudienceId: _Fixed = None
    sourceSpec: _Fixed = None
    audienceType: _Fixed = None
    originName: _Fixed = None
    namespace: _Fixed = None
    tags: _Fixed = None


class ChangedAudience(AudienceDetails):
    """An external audience after a change."""

    audienceId: str
    audienceName: str
    segmentId: str
    createdBy: str
    createdAt: int
    updatedBy: str
    updatedAt: int


class RunForm(Form):
    """Which files an ingestion takes: those that were changed within these times."""

    dataFilterStartTime: Seconds
    dataFilterEndTime: Seconds | None = None
    differentialIngestion: bool = Field(
        True,
        description="Only files that no ingestion took before. Otherwise all files: a member in"
        " none of them leaves the audience.",
    )


class StartedRun(Form):
    """An ingestion that has begun."""

    audienceName: str
    audienceId: str
    runId: str
    differentialIngestion: bool
    dataFilterStartTime: int
    dataFilterEndTime: int
    createdAt: int
    createdBy: str


class RunState(StrEnum):
    """The state of an ingestion, or of a stage of it."""

    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class Stage(StrEnum):
    """The stages of an ingestion."""

    DATASET_INGEST = "DATASET_INGEST"  # the customer's files are read
    PROFILE_STORE_INGEST = "PROFILE_STORE_INGEST"  # bid requests show it


class StageDetails(Form):
    """One stage of an ingestion. Counts are of rows, never of opted-out persons."""

    stage: Stage
    status: RunState
    flowRunId: str
    message: str | None = None


class RunStatus(StartedRun):
    """The progress of an ingestion."""

    status: RunState
    details: tuple[StageDetails, ...]


class Page(Form):
    """The position in a list."""

    start: int
    limit: int
    count: int
    totalCount: int


class RunList(Form):
    """Ingestions of an external audience."""

    runs: tuple[RunStatus, ...]
    page: Page = Field(alias="_page")

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class OperationPath(Form):
    """Which creation."""

    operationId: str = Field(max_length=64)


class AudiencePath(Form):
    """Which external audience."""

    audienceId: str = Field(max_length=64)


class RunPath(AudiencePath):
    """Which ingestion."""

    runId: str = Field(max_length=64)


def _filter(text: str) -> str:
    try:
        run_filter(text)
    except WrongFilter as wrong:
        why = str(wrong)
    else:
        return text
    raise PydanticCustomError("filter", "{why}", {"why": why})


class RunsQuery(Query):
    """The wanted ingestions, and their order."""

    start: int = Field(0, ge=0, le=10**9, description="How many to leave out.")
    limit: int = Field(20, ge=1, le=40)
    sortBy: Literal[
        "ingestionTime", "-ingestionTime", "createdAt", "-createdAt", "name", "-name"
    ] = "-ingestionTime"
    property: tuple[Annotated[str, AfterValidator(_filter)], ...] = Field(
        (),
        max_length=10,
        description="`status=SUCCESS`, `createdAt>=1749324248`, `name=contains...`; several, all"
        " of which hold.",
    )
