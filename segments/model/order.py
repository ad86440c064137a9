"""The order of a delivery: its segments, and what to do with each."""

import re
from enum import StrEnum

import msgspec

_SEGMENT_ID = re.compile(r"-?[0-9]{1,20}")

FIRST_GIVEN_ID = 10**12
"""Segment ids that we give start here, with 13 digits; partners may not choose such ids."""

_GIVEN_ID = re.compile(r"[0-9]{13}")


class SegmentAction(StrEnum):
    """The action of a delivery on a segment."""

    ADD = "add"
    REMOVE = "remove"


class SegmentOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """A segment to change; `segment_id` counts only if `is_valid`."""

    segment_id: str
    name: str
    action: SegmentAction
    audience_id: int | None = None  # if the door knows the audience, which must still exist

    @property
    def is_valid(self) -> bool:
        """
        Whether `segment_id` is an integer, as every segment id is.

        LiveAudience: "Must be integer values only. Other values will be rejected".
        """
        return _SEGMENT_ID.fullmatch(self.segment_id) is not None

    @property
    def is_to_exist(self) -> bool:
        """We gave the id: its audience exists, or the action fails."""
        return _GIVEN_ID.fullmatch(self.segment_id) is not None

    @property
    def refused_because(self) -> str | None:
        """Tell the partner why the segment's action failed, if it did."""
        if not self.is_valid:
            return "the id is not an integer of at most 20 digits: give the segment such an id"
        if self.is_to_exist:
            return (
                "ids of 13 digits are given by the service, and it has given you no such id:"
                " choose one of fewer or more digits"
            )
        return None


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """The order of a delivery, made once by its door; `None`: the partner did not say."""

    segments: tuple[SegmentOrder, ...]
    digest_algorithm: str | None = None  # md5 or sha1
    digest: str | None = None  # lower-case hex
    records: int | None = None
    hash_type: str | None = None  # md5, sha1, sha2: of the e-mail hashes
    max_removed_share: float | None = None  # of an audience; see segments.ingest.brake
    run_id: str | None = None  # of an external audience; the job makes its file
    replaces: bool = False  # ids that the file does not name leave the audience

    @property
    def is_of_marked_ids(self) -> bool:
        """
        The file marks each id as coming or leaving: `segments.ingest.external_audience.delta`.
        """
        return self.run_id is not None
