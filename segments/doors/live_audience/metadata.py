"""
LiveAudience's metadata file, and the order that it contains.

The form is the document's ("Request Body"), field for field; other fields are ignored.
`order` translates the request into our terms, the only ones after the door.

Of several faults, the vendor's lowest code is answered: "not well formed" before "partner
unknown".
"""

import json
import re
from datetime import date
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from segments.doors.live_audience.codes import code_of
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.stop_reason import Stopped, StopReason
from segments.runtime.json_values import WholeNumber, WrittenAs
from segments.runtime.validation_faults import Fault, json_faults

MAX_METADATA_BYTES = 1 << 20
MAX_SEGMENTS = 500

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DIGEST_CHARS = {"md5": 32, "sha1": 40}


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("unprintable", "has characters that can't be printed")
    return text


def _without_slash(text: str) -> str:
    if "/" in text or "\\" in text:
        raise PydanticCustomError(StopReason.SLASH_IN_NAME, "has slash characters")
    return text


def _day(text: str) -> str:
    try:
        if _DAY.fullmatch(text):  # `fromisoformat` also accepts weeks
            date.fromisoformat(text)
            return text
    except ValueError:
        pass
    raise PydanticCustomError("day", "is not a day as yyyy-mm-dd")


def _callback(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise PydanticCustomError("callback_url", "is not an absolute http or https URL")
    return text


def _as_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


_Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
_Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=256),
    AfterValidator(_printable),
]
_PublicId = Annotated[
    str,
    BeforeValidator(_as_text),
    StringConstraints(strip_whitespace=True, min_length=1, max_length=128),
    AfterValidator(_printable),
]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileForm(_Form):
    """`file`: "metadata about the data file in order to verify" it."""

    name: Annotated[_Name, AfterValidator(_without_slash)]
    hash: Annotated[Literal["md5", "sha1"], _Lower]
    digest: Annotated[
        str,
        WrittenAs(
            r"^[0-9a-fA-F]{32}([0-9a-fA-F]{8})?$",
            "is not the 32 hex digits of an MD5, or the 40 of a SHA-1",
        ),
    ]
    date: Annotated[str, AfterValidator(_day)]
    records: WholeNumber = Field(ge=0, le=10**12)

    @model_validator(mode="after")
    def _digest_is_of_its_algorithm(self) -> "FileForm":
        if len(self.digest) != _DIGEST_CHARS[self.hash]:
            raise PydanticCustomError("digest", "digest is not as long as one of its algorithm")
        return self


class SegmentForm(_Form):
    """One of `segments`. An id that is no integer fails its own action, not the request."""

    id: Annotated[
        str,
        BeforeValidator(_as_text),
        StringConstraints(max_length=64),
        AfterValidator(_printable),
    ]
    name: _Name
    action: SegmentAction


class Metadata(_Form):
    """A LiveAudience metadata file ("Request Body")."""

    partner_id: _PublicId
    sub_id: _PublicId | None = None
    file: FileForm
    segments: tuple[SegmentForm, ...] = Field(min_length=1, max_length=MAX_SEGMENTS)
    callback_url: Annotated[str, AfterValidator(_callback)] | None = None

    def order(self) -> Order:
        """Return the order, in our own terms."""
        return Order(
            segments=tuple(SegmentOrder(s.id, s.name, s.action) for s in self.segments),
            digest_algorithm=self.file.hash,
            digest=self.file.digest.lower(),
            records=self.file.records,
        )

    def as_kept(self) -> dict[str, Any]:
        """Return the form that the ledger keeps for answers."""
        return self.model_dump(mode="json", exclude_none=True)


def read_metadata(raw: bytes) -> Metadata:
    """
    Parse a metadata file as delivered.

    Raises:
        Stopped: NOT_WELL_FORMED, UNKNOWN_PARTNER, UNKNOWN_SUB_ID, SLASH_IN_NAME or
            CALLBACK_URL, naming the fields and never their values.
    """
    if len(raw) > MAX_METADATA_BYTES:
        raise Stopped(
            StopReason.NOT_WELL_FORMED, f"metadata of more than {MAX_METADATA_BYTES} bytes"
        )
    text = in_utf_8(raw)
    try:
        return Metadata.model_validate_json(text, strict=True)
    except ValidationError as error:
        faults = json_faults(error, text)
    stops = [_stop_of(fault) for fault in faults]
    raise min(stops, key=lambda stop: code_of(stop.reason))


def in_utf_8(raw: bytes) -> bytes:
    """Return JSON in UTF-8 (RFC 8259), also from a BOM or PowerShell's UTF-16."""
    encoding = json.detect_encoding(raw)
    return raw if encoding == "utf-8" else raw.decode(encoding, "replace").encode()


def _field(loc: tuple[int | str, ...]) -> str:
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return field.removeprefix(".")


def _stop_of(fault: Fault) -> Stopped:
    field = _field(fault.loc)
    detail = f"{field}: {fault.sentence}" if field else fault.sentence
    match fault.loc:
        case ("partner_id",):
            return Stopped(StopReason.UNKNOWN_PARTNER, detail)
        case ("sub_id",):
            return Stopped(StopReason.UNKNOWN_SUB_ID, detail)
        case ("callback_url",):
            return Stopped(StopReason.CALLBACK_URL, detail)
        case ("file", "name") if fault.kind == StopReason.SLASH_IN_NAME:
            return Stopped(StopReason.SLASH_IN_NAME, detail)
        case _:
            return Stopped(StopReason.NOT_WELL_FORMED, detail)
