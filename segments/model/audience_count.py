"""The census's count of an audience: its members on a day, in the store."""

from typing import NamedTuple


class AudienceCount(NamedTuple):
    """A row of the ledger's `audience_counts`."""

    audience_id: int
    day: int  # of the census, as segments.model.record.day_of counts
    counted_at_s: float
    members: int  # hidden by opt-outs included
    opted_out: int
    ends: dict[int, int]  # memberships' last day -> their number; none for good
