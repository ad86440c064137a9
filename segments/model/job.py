r"""
A job: a delivered file on its way into the store. Read this first.

    unpack -> validate -> parse  =spool=>  brake -> merge -> publish  ->  done
                                             \ ->  held, until it is released
                                                any of these -> failed

A job is a value: `segments.ingest.run` makes its successive states, and the caller saves each. Some
files have additional steps: `segments.ingest.file_steps`.

Until the spool is complete nothing is written. From then on every step may be repeated: the report
fixes a job's changes before the first write, expiry days included. A killed job ends like any
other; only its counts may call additions since the last checkpoint "unchanged".
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
    """Why a line is no usable record."""

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
        """The line's fault and remedy, without a quote."""
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
    """A bad line of the sample."""

    number: int  # from 1, blank lines and the header counted
    reason: BadLineReason


class Planned(msgspec.Struct, frozen=True):
    """A job's change to a segment; rejected if without an audience id."""

    segment_id: str
    action: SegmentAction
    audience_id: int | None = None
    expiry_day: int = NO_EXPIRY


MAX_DEATHS = 5
"""Loaders that die of a job without progress, before the job is to blame."""


class JobState(StrEnum):
    """The state of a job; the last two are final."""

    QUEUED = "queued"  # waits for a loader
    RUNNING = "running"  # a loader works on it, and holds its lease
    HELD = "held"  # waits for an operator to release it
    DONE = "done"
    FAILED = "failed"


NO_FILE = ""
"""The blob of a job whose file was deleted as unnecessary."""

UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.HELD)


class Checkpoint(msgspec.Struct, frozen=True):
    """The progress of a job in the store."""

    next_part: int = 0  # all parts of the spool below are in the store
    deaths: int = 0  # loaders that died since its last progress
    is_released: bool = False  # an operator has allowed its removals
    # Of a job that replaces: ids absent from the file are removed in all parts below.
    next_retained: int = 0

    @property
    def parts(self) -> int:
        """The job's mark in the store, if all of this is there."""
        return self.next_part + self.next_retained


class Report(msgspec.Struct, frozen=True):
    """A job's findings and results."""

    size_bytes: int = 0  # as delivered
    read_bytes: int = 0
    hash_type: str | None = None
    rows: int = 0  # records: lines that are neither blank nor the header
    valid: int = 0
    bad: int = 0
    bad_lines: tuple[BadLine, ...] = ()  # some of each reason
    bad_by_reason: dict[BadLineReason, int] = {}  # adds up to `bad`, but for a run's rows
    header_line: int = 0  # the line taken for column names; 0: none
    header: str = ""  # its text, if it is a known name; see segments.ingest.header
    segments: tuple[Planned, ...] = ()
    written: int = 0  # of the valid rows
    rows_per_s: float = 0.0  # written, on average since a loader last took the job
    duplicates: int = 0
    # In pairs of id and audience: segments.model.record.Tally.
    added: int = 0
    renewed: int = 0
    removed: int = 0
    unchanged: int = 0
    refused: int = 0
    tallies: dict[int, Tally] = {}  # the same by audience; their sums are the five above
    # Unix times of stages' ends; `None`: not ended, or in an older version.
    read_at_s: float | None = None
    checked_at_s: float | None = None  # the brake let it go on
    written_at_s: float | None = None
    # Numbers of opt-outs in the ledger: up to the first, in the store before the job wrote; above
    # the second, recorded after all writes.
    opt_outs_before: int | None = None
    opt_outs_until: int | None = None
    held_because: str = ""  # the operator must look at this
    is_ids: bool = False  # the kept file holds ids only; counts are of the delivered file
    delivered_blob: str = ""  # the delivered file that it replaced, until that is deleted

    def unwritten(self) -> "Report":
        """Return the report as of nothing in the store; the plan stays."""
        none = dict.fromkeys(("written", "duplicates", *Tally._fields), 0)
        return replace(
            self, **none, tallies={}, rows_per_s=0.0, written_at_s=None, opt_outs_until=None
        )

    def with_tallies(self, tallies: Mapping[int, Tally]) -> "Report":
        """Return the report with more results, by audience."""
        by_audience = dict(self.tallies)
        for audience_id, tally in tallies.items():
            by_audience[audience_id] = by_audience.get(audience_id, Tally()) + tally
        more = sum(tallies.values(), Tally())._asdict()
        added_up = {name: getattr(self, name) + count for name, count in more.items()}
        return replace(self, **added_up, tallies=by_audience)

    @property
    def remaining_s(self) -> float | None:
        """The remaining time at this rate, if known."""
        return (self.valid - self.written) / self.rows_per_s if self.rows_per_s else None


class Scrubbed(msgspec.Struct, frozen=True):
    """The result of scrubbing a job's file: see `segments.upkeep.scrub.scrubber`."""

    digest: str = ""  # of the file as it is now
    hash_type: str | None = None  # by the first valid line of the file as it came
    stop: StopReason | None = None  # the file is deleted: why the job fails
    error: str = ""  # the detail of the stop


class Job(msgspec.Struct, frozen=True):
    """A row of the ledger's jobs."""

    id: int
    transaction_id: str
    door: str
    partner_id: int
    owner_id: int
    fingerprint: str
    blob: str
    file_name: str
    order: Order
    metadata: dict[str, Any]  # as its door received it: only for that door's answer
    state: JobState
    created_at_s: float
    checkpoint: Checkpoint = Checkpoint()
    report: Report = Report()
    stop: StopReason | None = None  # why it failed
    error: str | None = None  # the same, in words
    started_at_s: float | None = None
    finished_at_s: float | None = None
    scrubbed: Scrubbed | None = None  # none: the file is as it came
    delivered_bytes: int = 0  # of the file as it came; 0: unknown (an older version, or a run)

    @property
    def has_written_nothing(self) -> bool:
        """The job has failed; a rebuild does not read its file."""
        return self.state is JobState.FAILED and not self.checkpoint.next_part


def failed(job: Job, stopped: Stopped, at_s: float) -> Job:
    """Return the job as failed."""
    return replace(
        job,
        state=JobState.FAILED,
        stop=stopped.reason,
        error=str(stopped),
        finished_at_s=at_s,
    )


def fingerprint(door: str, owner_id: int, metadata: Mapping[str, Any], sha256: str) -> str:
    """Return the fingerprint of a delivery: equal for the same metadata and file."""
    said = msgspec.json.encode([door, owner_id, metadata, sha256], order="deterministic")
    return hashlib.sha256(said).hexdigest()
