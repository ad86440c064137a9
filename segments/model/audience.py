"""
An audience: the persons that one owner calls by one segment id.

The partner's segment id is text that only the partner must keep unambiguous,
and it can be used anew once its audience is deleted. So records hold the
ledger's number instead, which is small and never comes back.
"""

from dataclasses import dataclass
from enum import StrEnum

from segments.model import record
from segments.model.account import AccountTree
from segments.model.day import S_PER_DAY


class AudienceState(StrEnum):
    """Whether an audience is shown in bid requests."""

    ACTIVE = "active"
    DEACTIVATED = "deactivated"  # files still change it; nothing is shown
    DELETED = "deleted"  # for good; its number is not used again


@dataclass(frozen=True, slots=True)
class Audience:
    """One row of the ledger's audiences."""

    id: int
    owner_id: int  # the advertiser whose persons these are
    partner_id: int  # whose `Data` shows it: the owner, or the owner's agency
    segment_id: str
    name: str
    state: AudienceState = AudienceState.ACTIVE
    live_from_s: int | None = None  # activation window; none: no bound
    live_until_s: int | None = None
    ttl_days: int | None = None  # how long a membership holds; none: for good


def change(audience: Audience, is_add: bool, tree: AccountTree, now_s: float) -> record.Change:
    """
    Return what adding persons to an audience, or removing them, does to their records.

    Args:
        audience: Of any state.
        is_add: False to remove.
        tree: Says whose opt-outs keep persons out.
        now_s: When the memberships begin; for a job, when it was created, so
            that resuming or repeating it writes the same bytes.
    """
    if not is_add:
        return record.Change(audience.id, is_add=False)
    return record.Change(
        audience.id,
        is_add=True,
        expiry_day=_expiry_day(audience.ttl_days, now_s),
        forbidden_by=tree.forbidding(audience.owner_id),
    )


def _expiry_day(ttl_days: int | None, now_s: float) -> int:
    """
    Return the last day of a membership that begins now.

    It holds to the end of that day, so for `ttl_days` and the rest of a day.
    """
    if ttl_days is None:
        return record.NO_EXPIRY
    return min(record.day_of(now_s + ttl_days * S_PER_DAY), record.MAX_EXPIRY_DAY)
