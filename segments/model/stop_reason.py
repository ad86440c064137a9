"""
Why a job ends without success: a closed list for every stage of the ingest.

Ledger, log and metric use this word, doors their vendors' (`segments.doors.live_audience.codes`).
"""

from enum import StrEnum


class StopReason(StrEnum):
    """The partner must act, except for the first two and the last."""

    INTERNAL = "internal"  # a fault of ours; the log has its place
    STORE_CORRUPT = "store_corrupt"  # a record in the store that can't be read
    NOT_WELL_FORMED = "not_well_formed"  # the metadata file is not the document's JSON
    UNKNOWN_PARTNER = "unknown_partner"  # partner_id missing, unknown or inactive
    UNKNOWN_SUB_ID = "unknown_sub_id"  # likewise, or missing for an agency
    SLASH_IN_NAME = "slash_in_name"  # file.name with / or \
    CALLBACK_URL = "callback_url"  # not an absolute http(s) URL
    FILE_NOT_FOUND = "file_not_found"  # metadata without its data file
    DIGEST_MISMATCH = "digest_mismatch"  # the file does not match its description
    RECORD_COUNT_MISMATCH = "record_count_mismatch"  # likewise
    UNREADABLE_FILE = "unreadable_file"  # an archive cut short, of several files, encrypted
    INFLATES_TOO_FAR = "inflates_too_far"  # a bomb
    NO_VALID_RECORD = "no_valid_record"  # no e-mail hash in the file
    AUDIENCE_DELETED = "audience_deleted"  # while its file was on the way
    STORAGE_AWAY = "storage_away"  # a customer's directory or bucket can't be read
    OVER_QUOTA = "over_quota"  # the partner's quota is used up
    NOT_RELEASED = "not_released"  # held by the brake, and refused by an operator

    @property
    def advice(self) -> str:
        """Return the sender's remedy, in a sentence."""
        return _REASON_TO_ADVICE[self]


_REASON_TO_ADVICE = {
    StopReason.INTERNAL: "Nothing is wrong with the delivery; ask the operator, then send it"
    " again.",
    StopReason.STORE_CORRUPT: "Nothing is wrong with the delivery; ask the operator, then send it"
    " again.",
    StopReason.NOT_WELL_FORMED: "Correct the metadata file as the message says, and send it again.",
    StopReason.UNKNOWN_PARTNER: "Put the partner_id that you were given into the metadata file.",
    StopReason.UNKNOWN_SUB_ID: "Put the sub_id of one of your accounts into the metadata file, or"
    " ask the operator to add it.",
    StopReason.SLASH_IN_NAME: "Put the data file's name alone into file.name, without folders.",
    StopReason.CALLBACK_URL: "Give a full http:// or https:// URL, or leave callback_url out.",
    StopReason.FILE_NOT_FOUND: "Send the data file under the name in file.name, then the metadata"
    " file again.",
    StopReason.DIGEST_MISMATCH: "Compute the digest of the file as it is sent, compressed if it is,"
    " and send both files again.",
    StopReason.RECORD_COUNT_MISMATCH: "Put the number of the file's lines into file.records, or"
    " send the whole file; then send both again.",
    StopReason.UNREADABLE_FILE: "Send a plain file, a .gz, or a .zip of one file without a"
    " password.",
    StopReason.INFLATES_TOO_FAR: "Send the file less compressed, or in several parts.",
    StopReason.NO_VALID_RECORD: "Send one hash a line: the MD5, SHA-1 or SHA-256 of a lower-case"
    " e-mail address in hex.",
    StopReason.AUDIENCE_DELETED: "Create the audience anew, or leave the delivery out.",
    StopReason.STORAGE_AWAY: "Check that the directory or bucket can be read, then start again.",
    StopReason.OVER_QUOTA: "Nothing is wrong with the delivery; do as the message says.",
    StopReason.NOT_RELEASED: "The operator has refused to apply it, for it would have removed too"
    " many; ask the operator.",
}

OURS = frozenset({StopReason.INTERNAL, StopReason.STORE_CORRUPT})
"""Faults of ours; details are useless to a partner."""

UNTOLD = OURS | {StopReason.NOT_RELEASED}
"""
Details are for the operator only.

A held job's detail counts members without erased persons, which could reveal an opt-out.
"""


OF_METADATA = frozenset({StopReason.DIGEST_MISMATCH, StopReason.RECORD_COUNT_MISMATCH})
"""The file does not match its description; another description may."""

OF_CONTENT = frozenset(
    {StopReason.UNREADABLE_FILE, StopReason.INFLATES_TOO_FAR, StopReason.NO_VALID_RECORD}
)
"""Faults that no other description would mend."""


class Stopped(Exception):
    """
    A stage can't go on; the job ends, and its writes stay.

    `detail` is for operator and partner: counts, names of fields, line numbers; never a value of
    the file. Unprintable characters become U+FFFD, for ledgers and terminals.
    """

    def __init__(self, reason: StopReason, detail: str = "") -> None:
        if not detail.isprintable():
            detail = "".join(char if char.isprintable() else "\ufffd" for char in detail)
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
