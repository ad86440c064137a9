"""The census's count of an audience: its members on a day, exactly as the store holds them."""

from typing import NamedTuple


class AudienceCount(NamedTuple):
    """A row of the ledger's `audience_counts`."""

    audience_id: int
    day: int  # of the census, as segments.model.record.day_of counts
    counted_at_s: float
    members: int  # with those whom an opt-out hides
    opted_out: int
    ends: dict[int, int]  # the last day of memberships, to their number; without those for good
