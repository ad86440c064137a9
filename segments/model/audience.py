"""
An audience: the persons that an owner calls by a segment id.

A partner's segment ids are texts, and may be reused after deletion. So records hold the ledger's
small, unique number.
"""

from dataclasses import dataclass
from enum import StrEnum

from segments.model import record
from segments.model.account import AccountTree
from segments.model.day import S_PER_DAY


class AudienceState(StrEnum):
    """Whether an audience is shown in bid requests."""

    ACTIVE = "active"
    DEACTIVATED = "deactivated"  # files still change it; not shown
    DELETED = "deleted"  # for good; its number is not used again


@dataclass(frozen=True, slots=True)
class Audience:
    """A row of the ledger's audiences."""

    id: int
    owner_id: int  # the advertiser whose persons these are
    partner_id: int  # shown in this partner's `Data`: the owner or its agency
    segment_id: str
    name: str
    state: AudienceState = AudienceState.ACTIVE
    live_from_s: int | None = None  # activation window; none: no bound
    live_until_s: int | None = None
    ttl_days: int | None = None  # duration of a membership; none: for good


def change(audience: Audience, is_add: bool, tree: AccountTree, now_s: float) -> record.Change:
    """
    Return the change that adds persons to an audience or removes them.

    Memberships start at `now_s`: of a job, its creation, so that a repetition writes the same
    bytes.
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
    Return the last day of a new membership, which holds to that day's end.
    """
    if ttl_days is None:
        return record.NO_EXPIRY
    return min(record.day_of(now_s + ttl_days * S_PER_DAY), record.MAX_EXPIRY_DAY)
