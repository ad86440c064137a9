"""
What a partner reads of a reason: LiveAudience's codes, as the document has them ("Errors").

Several of our reasons share one of the vendor's codes: a file of 5 records that was
announced with 6 and a file with another digest are the same message to whoever sent it,
"this is not the file you described". The Audience API, which has no errors of its own for
a file, says the same.
"""

from segments.model.stop_reason import StopReason

DESCRIPTIONS = (
    "Internal error",
    "Request no well formed",  # as the document spells it; clients compare
    "Partner id invalid or missing",
    "Sub id invalid or missing",
    "Filename contains slash characters",
    "Callback URL wrong format",
    "File not found",
    "File checksum validation failed",
    "File has no valid records",
)
"""The vendor's descriptions by code."""

_REASON_TO_CODE = {
    StopReason.INTERNAL: 0,
    StopReason.STORE_CORRUPT: 0,
    StopReason.NOT_WELL_FORMED: 1,
    StopReason.UNKNOWN_PARTNER: 2,
    StopReason.UNKNOWN_SUB_ID: 3,
    StopReason.SLASH_IN_NAME: 4,
    StopReason.CALLBACK_URL: 5,
    StopReason.FILE_NOT_FOUND: 6,
    StopReason.DIGEST_MISMATCH: 7,
    StopReason.RECORD_COUNT_MISMATCH: 7,
    StopReason.UNREADABLE_FILE: 8,
    StopReason.INFLATES_TOO_FAR: 8,
    StopReason.NO_VALID_RECORD: 8,
    StopReason.AUDIENCE_DELETED: 1,
    StopReason.STORAGE_AWAY: 6,
    StopReason.NOT_RELEASED: 0,
}


def code_of(reason: StopReason) -> int:
    """Return the vendor's error code, 0 to 8."""
    return _REASON_TO_CODE[reason]


def description_of(reason: StopReason) -> str:
    """Return the vendor's words for the code of a reason."""
    return DESCRIPTIONS[code_of(reason)]
