"""Requests and answers of the Privacy API, in its document's spelling."""
# ruff: noqa: N815 - members are spelled as in the vendor's document

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from segments.doors.privacy.scope import Scope, ScopeAnswer
from segments.doors.rest.known_members import KnownForm
from segments.doors.rest.schemas import Form, PrintableText, printable
from segments.ledger.privacy.access_requests import SubjectId
from segments.model.identity import (
    MAX_TEXT_CHARS,
    IdentifierKind,
    NoPerson,
    id_of_duid,
    id_of_email_hash,
    tail_of_email_hash,
)
from segments.runtime.json_values import WrittenAs

MAX_IDS = 1000
"""Per request, and so per data subject."""

_MAX_CALLBACK_CHARS = 2048


class DsrAction(StrEnum):
    """The action of a request."""

    RESTRICT = "RESTRICT"  # never enrich again
    ERASURE = "ERASURE"  # the same, and delete memberships
    ACCESS = "ACCESS"  # report what is held


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if len({value.lower() for value in values}) != len(values):
        raise PydanticCustomError("unique", "the same hash stands there twice")
    return values


def _unique_as_they_are(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise PydanticCustomError("unique", "the same value stands there twice")
    return values


def _of_somebody(digest: str) -> str:
    try:
        id_of_email_hash(digest)
    except NoPerson as error:
        raise PydanticCustomError("no_person", f"is {error}") from None
    return digest


_IsSet = Field(max_length=MAX_IDS, json_schema_extra={"uniqueItems": True})
_EmailHash = Annotated[
    str,
    WrittenAs(
        r"^([0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$",
        "is no hash: 32 (MD5), 40 (SHA-1) or 64 (SHA-256) hex digits",
    ),
    AfterValidator(_of_somebody),
]
_Duid = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARS)]
_Callback = Annotated[
    str, StringConstraints(max_length=_MAX_CALLBACK_CHARS), AfterValidator(printable)
]

EmailHashes = Annotated[tuple[_EmailHash, ...], _IsSet, AfterValidator(_unique)]
Duids = Annotated[tuple[_Duid, ...], _IsSet, AfterValidator(_unique_as_they_are)]
Jurisdiction = Literal["EU_PRIVACY", "US_PRIVACY"]


_ALSO_SPELLED = {"liveItentFpcs": "liveIntentFpcs", "emailhashes": "emailHashes"}
"""Spellings in the document's prose."""


class NewDataSubjectRequest(KnownForm):
    """A request of one data subject; all ids are that person's."""

    answered = frozenset({"status", "userId", "transactionId", "createdAt", "downloadUrl"})
    also_spelled = _ALSO_SPELLED

    action: DsrAction
    emailHashes: EmailHashes = Field(
        (), description="MD5, SHA-1 or SHA-256 in hex of lower-cased addresses."
    )
    liveIntentFpcs: Duids = Field((), description="First-party cookies (DUIDs).")
    jurisdiction: Jurisdiction | None = None
    scope: Scope | None = Field(None, description="Null: as far as the token's account reaches.")
    callback: Annotated[_Callback | None, BeforeValidator(_blank_is_none)] = Field(
        None, description="POSTed to once an ACCESS request is completed."
    )
    submitter: Annotated[PrintableText | None, BeforeValidator(_blank_is_none)] = Field(
        None, description="Only recorded."
    )

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        count = len(self.emailHashes) + len(self.liveIntentFpcs)
        if not count:
            raise PydanticCustomError("empty", "emailHashes and liveIntentFpcs are both empty")
        if count > MAX_IDS:
            raise PydanticCustomError("too_many", f"more than {MAX_IDS} ids in one request")
        return self

    def ids(self) -> tuple[SubjectId, ...]:
        """Return all ids, in the request's order."""
        duids = (SubjectId(IdentifierKind.DUID, id_of_duid(text)) for text in self.liveIntentFpcs)
        return (*subject_ids(self.emailHashes), *duids)


def subject_ids(email_hashes: tuple[str, ...]) -> tuple[SubjectId, ...]:
    """Return the ids of well-formed hashes."""
    return tuple(
        SubjectId(IdentifierKind.EMAIL, id_of_email_hash(digest), tail_of_email_hash(digest))
        for digest in email_hashes
    )


class DataSubjectResponse(Form):
    """The request was taken."""

    transactionId: str


class DataSubjectRequest(Form):
    """A request as submitted, and its state."""

    transactionId: str
    action: DsrAction
    scope: ScopeAnswer
    status: Literal["pending", "completed", "expired"] = Field(
        description="A pending opt-out is recorded, and in force as soon as the store has it;"
        " `expired` is a report that is gone."
    )
    jurisdiction: str | None = None
    submitter: str | None = None
    callback: str | None = None
    userId: int | None = Field(None, description="The number of the token that submitted it.")
    emailHashes: tuple[str, ...]
    liveIntentFpcs: tuple[str, ...] = Field(
        (), description="Always empty: a cookie is kept as an id that can't be read back."
    )
    createdAt: str


class DataSubjectRequestWithReport(DataSubjectRequest):
    """A request, and the URL of its report."""

    downloadUrl: str | None = None


class DataSubjectRequestSearch(KnownForm):
    """Hashes to search by."""

    also_spelled = _ALSO_SPELLED

    emailHashes: EmailHashes = Field(min_length=1)


class DataSubjectRequestSearchResult(Form):
    """The requests that name one of the hashes, the newest first."""

    results: tuple[DataSubjectRequest, ...]


class TransactionPath(Form):
    """Which request."""

    transactionId: str


class ReportQuery(Form):
    """The query of a report's signed URL."""

    expiresAt: str
    signature: str


class ApplicationError(Form):
    """An error, in the document's form."""

    httpStatus: int
    message: str
    errorCode: str
    transactionId: str | None = Field(
        None, description="Of a request that is recorded and not in force yet: NOT_IN_FORCE_YET."
    )
