"""
Schemas of digitalAudience's REST API.

Every answer is an envelope, `{data, status: {statusCode, message}, success}`, and null
members are sent as null. A failure has null `data`, the HTTP status as `statusCode`
(0 is success) and the reason as `message`. Ids are integers; strings of digits are
accepted too, because the document's examples show both.

Where the document numbers a single value of an enumeration ("New" is 0, "NODATA" is 5),
the other numbers are ours. The words are the document's, except "Ended" and an audience's
"READY", which it has lost.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from segments.doors.rest.schemas import Form, PrintableText

T = TypeVar("T")

MAX_ID = 2**53 - 1
"""The largest integer that every JSON reader represents exactly."""

_MAX_MOMENT_CHARS = 40
_LAST_S = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


def _digits(value: Any) -> Any:
    # Neither true, nor 1.0, nor "+1": only plain digits are an id.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        return int(value)
    if type(value) is int:
        return value
    raise PydanticCustomError("id", "is no integer, and no string of its digits")


AnyId = Annotated[
    int,
    BeforeValidator(_digits),
    Field(ge=1, le=MAX_ID),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_ID},
                {"type": "string", "pattern": "^[0-9]{1,16}$"},
            ]
        }
    ),
]


def _second(moment: datetime) -> datetime:
    try:
        in_utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        in_utc = datetime.max.replace(tzinfo=UTC)
    if not 0 <= in_utc.timestamp() <= _LAST_S:
        raise PydanticCustomError("moment", "is not between 1970 and 9999")
    return in_utc.replace(microsecond=0)


_ISO_8601 = re.compile(r"\d{4}-?\d{2}-?\d{2}([Tt ][\d:.,]+([Zz]|[+-][\d:]+)?)?", re.ASCII)
_NO_MOMENT = 'is no moment in ISO 8601, as "2024-01-01T00:00:00Z"'


def _iso(value: Any) -> datetime:
    if isinstance(value, str) and len(value) <= _MAX_MOMENT_CHARS and _ISO_8601.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper())
        except ValueError:
            pass
    raise PydanticCustomError("moment", _NO_MOMENT)


Moment = Annotated[datetime, BeforeValidator(_iso), AfterValidator(_second)]
"""
A time in whole seconds; UTC if it has no offset.

ISO 8601 only: pydantic would read plain digits as a Unix time in seconds or milliseconds.
"""


def _readable(text: str) -> str:
    if not all(char.isprintable() or char in "\n\r\t" for char in text):
        raise PydanticCustomError("unprintable", "has characters that can't be printed")
    return text


Description = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=2048), AfterValidator(_readable)
]
"""Text, also of several lines, that is safe to store, print and send unchanged."""


class Status(Form):
    """The result of an operation."""

    statusCode: int = Field(description="0: success; otherwise the HTTP status.")
    message: str | None = Field(description="Why it failed; null if it did not.")


class Envelope(Form, Generic[T]):
    """The answer of every operation."""

    data: T
    status: Status
    success: bool


class Failure(Form):
    """The answer of a failed operation."""

    data: None = None
    status: Status
    success: bool = False


class LoginForm(Form):
    """A user's name and password."""

    userName: PrintableText = Field(max_length=128)
    password: str = Field(max_length=1024)


class NewCampaign(Form):
    """A campaign to create."""

    name: PrintableText


class CampaignView(Form):
    """A campaign, which audiences are created in."""

    id: int
    name: str
    created: datetime


class PlatformAccount(Form):
    """A recipient of segments that is granted the caller's, as an account of a platform."""

    id: int = Field(description="The `accountId` of an activation.")
    name: str = Field(description="Its bid requests are enriched at `/openrtb2/enrich/{name}`.")
    platformId: int
    platformName: str
    platformDisplayName: str
    agencyId: int
    agencyName: str
    accountTypeId: int
    accountTypeName: str
    advertiserId: int | None
    clientId: str | None
    accessToken: str | None = Field(description="None is needed here.")
    defaultSegmentPricingCategoryId: int | None
    created: datetime
    updated: datetime


class NewAudience(Form):
    """An audience to create."""

    name: PrintableText
    description: Description | None = None
    campaignId: AnyId


class AudienceChange(Form):
    """New name and description of an audience. A member left out stays; null is no description."""

    id: AnyId
    name: PrintableText = Field(default_factory=str)  # absent; a real name is never empty
    description: Description | None = None


class NewActivation(Form):
    """
    An audience to be shown to a platform account, in a window.

    The same account once more gets another window, under the same `segmentId`;
    one that ends in the past ends the activation.
    """

    audienceId: AnyId
    accountId: AnyId = Field(description="Of `GET /organisation/loadplatformaccounts`.")
    name: PrintableText
    description: Description | None = None
    startDate: Moment = Field(description="ISO 8601: the first second in which bids show it.")
    endDate: Moment = Field(
        description="ISO 8601: the first second in which bids show it no longer."
    )


class Activated(Form):
    """The result of an activation."""

    flowId: str = Field(description="A GUID; another one for each activation.")
    segmentId: int = Field(description="The id in bid requests: `user.data[].segment[].id`.")


class AudiencePath(Form):
    """Which audience."""

    audienceId: AnyId


class AudienceState(StrEnum):
    """Whether there is data."""

    READY = "READY"
    PROCESSING = "PROCESSING"
    NODATA = "NODATA"


class ActivationStatus(StrEnum):
    """Whether bids show it."""

    NEW = "New"
    ACTIVE = "Active"
    ENDED = "Ended"


class InsightsState(StrEnum):
    """Whether the counts of the data are complete."""

    PENDING = "PENDING"
    READY = "READY"


AUDIENCE_STATE_IDS = {
    AudienceState.READY: 1,
    AudienceState.PROCESSING: 2,
    AudienceState.NODATA: 5,
}
ACTIVATION_STATUS_IDS = {
    ActivationStatus.NEW: 0,
    ActivationStatus.ACTIVE: 1,
    ActivationStatus.ENDED: 2,
}
INSIGHTS_STATE_IDS = {InsightsState.PENDING: 0, InsightsState.READY: 1}

ONBOARDING = "ONBOARDING"
ONBOARDING_ID = 0


class DataSetCounts(Form):
    """The counts of one data type in an upload."""

    TOTAL: int = Field(description="Values that are not empty.")
    UNIQUE: int = Field(
        description="Different ones among them. Exact for EMAIL, PHONE and AAID; for the others"
        " exact up to 1,048,576, and beyond that an estimate (HyperLogLog) with a standard error"
        " of 0.8 %."
    )
    MATCH: int = Field(description="Of UNIQUE, ids that the store knew before this upload.")
    UMATCH: int = Field(description="Of MATCH, those that no opt-out forbids.")
    NOMATCH: int = Field(description="The rest of UNIQUE.")


class UploadSnapshot(Form):
    """The result of one upload."""

    audienceId: int
    mode: str = Field(description="`opt-in` adds the persons, `opt-out` removes them.")
    totalRows: int
    created: datetime
    dataSet: dict[str, DataSetCounts] = Field(
        description="By data type: EMAIL, PHONE, POSTALADDRESS, SECURITYNUMBER, AAID. Of these"
        " POSTALADDRESS and SECURITYNUMBER are never in bid requests: counted, and not kept."
    )
    matchRates: dict[str, float] = Field(description="By data type, MATCH of UNIQUE: 0.0 to 1.0.")


class UploadHistory(Form):
    """All uploads of an audience."""

    totalEvents: int
    history: dict[str, UploadSnapshot] = Field(description="By the time of the upload.")


class FailedUpload(Form):
    """An upload that ended without success. The document shows only results of other uploads."""

    fileName: str
    mode: str = Field(description="`opt-in` or `opt-out`.")
    created: datetime
    details: dict[str, Any] = Field(
        description="Why, which lines are bad, and what to do, as in a `.status` file."
    )


class CrmData(Form):
    """The counts of the uploaded data."""

    insightsState: InsightsState
    insightsStateId: int
    size: int = Field(description="Rows of all uploads that added persons.")
    history: UploadHistory
    failedUploads: list[FailedUpload] = Field(
        description="The latest ones that ended without success; they are not in `history`."
    )


class AudienceView(Form):
    """An audience with details."""

    userId: int
    description: str | None
    campaignId: int
    campaignName: str
    dataUpdated: datetime | None
    startDate: datetime | None = Field(description="When its first activation begins.")
    endDate: datetime | None = Field(description="When its last activation ends.")
    activationStatus: ActivationStatus
    activationStatusId: int
    lifetimeStatus: str | None = Field(description="Not kept: always null.")
    lifetimeStatusId: int | None
    tagCollection: list[str] | None = Field(description="Not kept: always null.")
    crmData: CrmData | None
    audienceState: AudienceState
    audienceStateId: int
    type: str
    typeId: int
    sourceAudienceId: int | None
    sourceAudienceTypeId: int | None
    canCreateLookalike: bool = Field(
        description="Always false. A lookalike audience is a guess at similar persons; this service"
        " shows only segments of persons that a partner has named."
    )
    hasSegments: bool = Field(
        description="Whether it was activated: each activation is a segment of a platform's."
    )
    id: int
    name: str
    created: datetime
    updated: datetime
