"""
From segments in the partner's words to audiences and changes in ours.

Audiences are made before the first membership of theirs is written, because it
needs their number; the catalog shows them to the bid path when the job is done,
so a new segment appears whole.

A plan is made once for each job and kept with it. Whoever resumes the job, or
rebuilds the store from it years later, applies the plan and not today's
settings, and so writes the same bytes. Only whose opt-outs forbid an addition
is asked anew each time: the no that came later counts too.
"""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts, audiences
from segments.model import audience
from segments.model.account import AccountTree
from segments.model.job import Planned
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.record import Change
from segments.model.stop_reason import Stopped, StopReason


async def plan(
    conn: AsyncConnection, order: Order, *, owner_id: int, partner_id: int, at_s: float
) -> tuple[Planned, ...]:
    """
    Find the audience of each segment, or create it, as the document has it.

    Args:
        conn: A transaction.
        order: What was asked for.
        owner_id: The account whose audiences these are.
        partner_id: The account that shows them: the owner, or its agency.
        at_s: When the memberships begin.

    Raises:
        Stopped: AUDIENCE_DELETED, where the order names the audience itself.
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
            found = await audiences.find_or_create_audience(
                conn, owner, partner, segment.segment_id, segment.name, now_s=at_s
            )
        change = audience.change(found, segment.action is SegmentAction.ADD, tree, at_s)
        return Planned(segment.segment_id, segment.action, found.id, change.expiry_day)

    return tuple([await planned(segment) for segment in order.segments])


def changes(segments: Iterable[Planned], tree: AccountTree, owner_id: int) -> list[Change]:
    """Return what a plan does to each id, in the order of the plan."""
    forbidden_by = tree.forbidding(owner_id)
    return [
        Change(segment.audience_id, True, segment.expiry_day, forbidden_by)
        if segment.action is SegmentAction.ADD
        else Change(segment.audience_id, False)
        for segment in segments
        if segment.audience_id is not None
    ]
