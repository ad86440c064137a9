"""
Why a job ends without success: a closed list for every stage of the ingest.

The word is the ledger's, the log's and the metric's. What a partner is told, its door says
in its vendor's words: see `segments.doors.live_audience.codes`.
"""

from enum import StrEnum


class StopReason(StrEnum):
    """What stopped a job. Whose turn it is: the partner's, but for the first two and the last."""

    INTERNAL = "internal"  # a fault of ours; the log has its place
    STORE_CORRUPT = "store_corrupt"  # a record in the store that can't be read
    NOT_WELL_FORMED = "not_well_formed"  # the metadata file is not the document's JSON
    UNKNOWN_PARTNER = "unknown_partner"  # partner_id missing, unknown or inactive
    UNKNOWN_SUB_ID = "unknown_sub_id"  # likewise, or missing where the partner is an agency
    SLASH_IN_NAME = "slash_in_name"  # file.name with / or \
    CALLBACK_URL = "callback_url"  # not an absolute http(s) URL
    FILE_NOT_FOUND = "file_not_found"  # metadata without its data file
    DIGEST_MISMATCH = "digest_mismatch"  # the file is not the one that was described
    RECORD_COUNT_MISMATCH = "record_count_mismatch"  # likewise
    UNREADABLE_FILE = "unreadable_file"  # an archive cut short, of several files, encrypted
    INFLATES_TOO_FAR = "inflates_too_far"  # a bomb
    NO_VALID_RECORD = "no_valid_record"  # not one e-mail hash in it
    AUDIENCE_DELETED = "audience_deleted"  # while its file was on the way
    STORAGE_AWAY = "storage_away"  # a customer's directory or bucket can't be read
    NOT_RELEASED = "not_released"  # held by the brake, and an operator said no


class Stopped(Exception):
    """
    A stage can't go on; the job ends here, and what it has written stays.

    `detail` is for the operator and the partner's engineer: counts, names of
    fields, line numbers; never a value out of the file.
    """

    def __init__(self, reason: StopReason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
