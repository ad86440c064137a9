"""
LiveAudience's error codes for our stop reasons ("Errors").

Several reasons share a code: a wrong record count and a wrong digest both mean "not the file you
described". The Audience API has no codes of its own, and uses these.
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
"""The vendor's descriptions; the index is the code."""

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
    StopReason.OVER_QUOTA: 0,
    StopReason.NOT_RELEASED: 0,
}


def code_of(reason: StopReason) -> int:
    """Return the vendor's error code, 0 to 8."""
    return _REASON_TO_CODE[reason]


def description_of(reason: StopReason) -> str:
    """Return the vendor's description for a reason."""
    return DESCRIPTIONS[code_of(reason)]
