"""
Maps a partner's segments to audiences and changes.

Audiences are created before their first membership, which needs their number. The catalog shows
them to the bid path when the job is done, so a new segment appears whole.

A resumed job, or a rebuild years later, applies the job's plan, and so writes the same bytes. Only
the opt-outs that forbid an addition are looked up each time.
"""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts, audiences, job_audiences
from segments.model import audience
from segments.model.account import AccountTree
from segments.model.job import Planned
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.quota import OverQuota
from segments.model.record import Change
from segments.model.stop_reason import Stopped, StopReason


async def plan(
    conn: AsyncConnection,
    order: Order,
    *,
    job_id: int,
    owner_id: int,
    partner_id: int,
    at_s: float,
) -> tuple[Planned, ...]:
    """
    Find or create the audience of each segment, as the document requires.

    The partner is the owner, or its agency. Memberships begin at `at_s`.

    Raises:
        Stopped: AUDIENCE_DELETED, if the order names the audience itself; OVER_QUOTA, if the
            partner may have no more.
    """
    tree = await accounts.tree(conn)
    owner = await accounts.account(conn, owner_id)
    partner = await accounts.account(conn, partner_id)

    async def planned(segment: SegmentOrder) -> Planned:
        if not segment.is_valid:
            return Planned(segment.segment_id, segment.action)
        if segment.audience_id is not None:
            found = await audiences.audience(conn, segment.audience_id)
            if found.state is audience.AudienceState.DELETED:
                raise Stopped(StopReason.AUDIENCE_DELETED)
        elif segment.is_to_exist and (
            await audiences.find_audience(conn, owner, segment.segment_id) is None
        ):
            return Planned(segment.segment_id, segment.action)
        else:
            try:
                found = await audiences.find_or_create_audience(
                    conn, owner, partner, segment.segment_id, segment.name, now_s=at_s
                )
            except OverQuota as over:
                raise Stopped(StopReason.OVER_QUOTA, str(over)) from None
        change = audience.change(found, segment.action is SegmentAction.ADD, tree, at_s)
        return Planned(segment.segment_id, segment.action, found.id, change.expiry_day)

    segments = tuple([await planned(segment) for segment in order.segments])
    await job_audiences.note(conn, job_id, segments)
    return segments


def changes(segments: Iterable[Planned], tree: AccountTree, owner_id: int) -> list[Change]:
    """Return a plan's changes to each id, in the plan's order."""
    forbidden_by = tree.forbidding(owner_id)
    return [
        Change(segment.audience_id, True, segment.expiry_day, forbidden_by)
        if segment.action is SegmentAction.ADD
        else Change(segment.audience_id, False)
        for segment in segments
        if segment.audience_id is not None
    ]
