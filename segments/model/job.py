r"""
One delivered file on its way into the store. Read this first.

    unpack -> validate -> parse  =spool=>  brake -> merge -> publish  ->  done
                                             \ ->  held, until it is released
                                                any of these -> failed

A job is a value: a row of the ledger. `segments.ingest.run` carries it from one
to the next, and whoever drives that saves each: how far it read, what it is
going to change, each checkpoint, the end.

Some kinds of files have steps of their own before, between and after these:
`segments.ingest.file_steps`.

Up to the spool nothing has been written. From there on every step may be
repeated: what a job changes is fixed in its report before the first write, the
expiry days included, and merging the same ids again changes nothing. A job that
was killed ends as if it had not been; only its counts may call "unchanged" what
the killed run had added after its last checkpoint.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from segments.model.order import Order, SegmentAction
from segments.model.record import NO_EXPIRY, Tally
from segments.model.stop_reason import Stopped, StopReason


class BadLineReason(StrEnum):
    """Why a line is no usable record; `in_words` says it to the partner."""

    NOT_A_HASH = "not_a_hash"
    OTHER_HASH = "other_hash"
    TOO_LONG = "too_long"
    NO_PERSON = "no_person"
    OTHER_COLUMNS = "other_columns"
    NOT_ITS_TYPE = "not_its_type"
    EMAIL_ADDRESS = "email_address"
    PHONE_NUMBER = "phone_number"
    UUID = "uuid"
    BASE64 = "base64"
    HEX_OF_OTHER_LENGTH = "hex_of_other_length"
    SEVERAL_VALUES = "several_values"
    EMPTY = "empty"

    @property
    def in_words(self) -> str:
        """What is wrong with the line and what to send instead; the line is never quoted."""
        return _IN_WORDS[self]


_IN_WORDS = {
    BadLineReason.NOT_A_HASH: "is no hash: send 32, 40 or 64 hex digits",
    BadLineReason.OTHER_HASH: "is a hash of another type than the first: send one type a file",
    BadLineReason.TOO_LONG: "is longer than 4,096 bytes: send one hash a line",
    BadLineReason.NO_PERSON: "is the hash of nothing, or a placeholder, and so no person's",
    BadLineReason.OTHER_COLUMNS: "has more or fewer columns than the header names",
    BadLineReason.NOT_ITS_TYPE: "has a value that is not what its column says",
    BadLineReason.EMAIL_ADDRESS: "looks like an e-mail address: send its SHA-256",
    BadLineReason.PHONE_NUMBER: "looks like a phone number: send e-mail hashes",
    BadLineReason.UUID: "looks like a UUID, such as a device id: send e-mail hashes",
    BadLineReason.BASE64: (
        "looks like base64: send hex, or a file whose every line is a hash in base64"
    ),
    BadLineReason.HEX_OF_OTHER_LENGTH: (
        "is hex, but not 32 (MD5), 40 (SHA-1) or 64 (SHA-256) digits"
    ),
    BadLineReason.SEVERAL_VALUES: (
        "looks like several values: send one hash a line, or a header that names the columns"
    ),
    BadLineReason.EMPTY: "has no hash in its column",
}


class BadLine(NamedTuple):
    """One bad line of the sample."""

    number: int  # from 1, blank lines and the header counted
    reason: BadLineReason


class Planned(msgspec.Struct, frozen=True):
    """What a job does with one segment; without an audience id, nothing: it was rejected."""

    segment_id: str
    action: SegmentAction
    audience_id: int | None = None
    expiry_day: int = NO_EXPIRY


MAX_DEATHS = 5
"""So many loaders may die of a job before it gets anywhere; then it is the job."""


class JobState(StrEnum):
    """Where a job stands. The last two are ends; a failed one can be delivered again."""

    QUEUED = "queued"  # nobody works on it
    RUNNING = "running"  # a loader does, and holds its lease
    HELD = "held"  # waits for a person to release it
    DONE = "done"
    FAILED = "failed"


NO_FILE = ""
"""The blob of a job whose file was deleted, for it is not needed."""

UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.HELD)


class Checkpoint(msgspec.Struct, frozen=True):
    """How far the store has it."""

    next_part: int = 0  # all parts of the spool below are in the store
    deaths: int = 0  # loaders that died since it last got further
    is_released: bool = False  # a person has said that it may remove what it does
    # Where the job replaces: of all parts below, those who are not named are out.
    next_retained: int = 0

    @property
    def parts(self) -> int:
        """What the store's mark of the job says, if it has all of this."""
        return self.next_part + self.next_retained


class Report(msgspec.Struct, frozen=True):
    """What a job found and did: what every door's answer and every screen is made from."""

    size_bytes: int = 0  # as delivered
    read_bytes: int = 0
    hash_type: str | None = None
    rows: int = 0  # records: lines that are neither blank nor the header
    valid: int = 0
    bad: int = 0
    bad_lines: tuple[BadLine, ...] = ()  # a sample
    header_line: int = 0  # the line that was taken as the names of columns; 0: none
    header: str = ""  # its text, where it is a name that we know; see segments.ingest.header
    segments: tuple[Planned, ...] = ()
    written: int = 0  # of the valid rows
    rows_per_s: float = 0.0  # written, on the average since a loader last took it up
    duplicates: int = 0
    # In pairs of id and audience: segments.model.record.Tally.
    added: int = 0
    renewed: int = 0
    removed: int = 0
    unchanged: int = 0
    refused: int = 0
    # The ledger's opt-outs, by number, between which the job wrote: all up to the
    # first were in the store before, none behind the second was recorded.
    opt_outs_before: int | None = None
    opt_outs_until: int | None = None
    held_because: str = ""  # what a person must look at
    is_ids: bool = False  # the file that is kept holds ids only; these counts are of the delivered
    delivered_blob: str = ""  # in whose place it is kept, as long as that is still to be deleted

    def unwritten(self) -> "Report":
        """Return the same of a job of which nothing is in the store; what it plans stays."""
        none = dict.fromkeys(("written", "duplicates", *Tally._fields), 0)
        return replace(self, **none, rows_per_s=0.0, opt_outs_until=None)

    @property
    def remaining_s(self) -> float | None:
        """How long the rest will take at this rate; `None`: nothing is known yet."""
        return (self.valid - self.written) / self.rows_per_s if self.rows_per_s else None


class Scrubbed(msgspec.Struct, frozen=True):
    """
    What became of a file from which erased ids were taken: see `segments.upkeep.scrub.scrubber`.
    """

    digest: str = ""  # of the file as it is now
    hash_type: str | None = None  # by the first valid line of the file as it came
    stop: StopReason | None = None  # the file is deleted: this is why the job fails
    error: str = ""  # the detail of it


class Job(msgspec.Struct, frozen=True):
    """One row of the ledger's jobs."""

    id: int
    transaction_id: str
    door: str
    partner_id: int
    owner_id: int
    fingerprint: str
    blob: str
    file_name: str
    order: Order
    metadata: dict[str, Any]  # as its door was sent it: for that door's answer, and nothing else
    state: JobState
    created_at_s: float
    checkpoint: Checkpoint = Checkpoint()
    report: Report = Report()
    stop: StopReason | None = None  # why it failed
    error: str | None = None  # the same, in words
    started_at_s: float | None = None
    finished_at_s: float | None = None
    scrubbed: Scrubbed | None = None  # none: the file is as it came

    @property
    def has_written_nothing(self) -> bool:
        """The job is over, and no rebuild reads its file."""
        return self.state is JobState.FAILED and not self.checkpoint.next_part


def failed(job: Job, stopped: Stopped, at_s: float) -> Job:
    """Return the job as it ends; what it has written stays, and its report says how far it came."""
    return replace(
        job,
        state=JobState.FAILED,
        stop=stopped.reason,
        error=str(stopped),
        finished_at_s=at_s,
    )


def fingerprint(door: str, owner_id: int, metadata: Mapping[str, Any], sha256: str) -> str:
    """Name a delivery by what it says and holds: the same one again has the same name."""
    said = msgspec.json.encode([door, owner_id, metadata, sha256], order="deterministic")
    return hashlib.sha256(said).hexdigest()
