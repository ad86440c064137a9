from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, Detail, note
from segments.ledger import accounts, audiences
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState

_STATE_TO_WHAT = {
    AudienceState.ACTIVE: "audience activate",
    AudienceState.DEACTIVATED: "audience deactivate",
    AudienceState.DELETED: "audience delete",
}


async def add_audience(
    conn: AsyncConnection,
    by: By,
    owner: Account,
    partner: Account,
    segment_id: str,
    name: str,
    *,
    ttl_days: int | None = None,
) -> Audience:
    """Add an audience; an existing audience takes the new name and TTL."""
    made = await audiences.find_or_create_audience(
        conn, owner, partner, segment_id, name, now_s=by.now_s
    )
    if ttl_days is not None:
        await audiences.set_ttl(conn, made, ttl_days, now_s=by.now_s)
    await _note(conn, by, "audience add", made, {"name": name, "ttl_days": ttl_days})
    return made


async def create_audience(
    conn: AsyncConnection,
    by: By,
    owner: Account,
    partner: Account,
    name: str,
    *,
    external_id: str | None = None,
    ttl_days: int | None = None,
) -> Audience:
    """Create an audience under a segment id of ours."""
    made = await audiences.add_audience(
        conn, owner, partner, name, external_id=external_id, ttl_days=ttl_days, now_s=by.now_s
    )
    detail = {"name": name, "external_id": external_id, "ttl_days": ttl_days}
    await _note(conn, by, "audience create", made, detail)
    return made


async def rename(conn: AsyncConnection, by: By, audience: Audience, name: str) -> None:
    """Rename an audience."""
    if name == audience.name:
        return
    await audiences.set_name(conn, audience, name, now_s=by.now_s)
    await _note(conn, by, "audience rename", audience, {"before": audience.name, "after": name})


async def set_state(
    conn: AsyncConnection, by: By, audience: Audience, state: AudienceState
) -> None:
    """Show an audience, hide it, or delete it permanently."""
    if audience.state is state:
        return
    await audiences.set_state(conn, audience, state, now_s=by.now_s)
    await _note(conn, by, _STATE_TO_WHAT[state], audience)


async def set_window(
    conn: AsyncConnection,
    by: By,
    audience: Audience,
    live_from_s: int | None,
    live_until_s: int | None,
) -> None:
    """Set the window in which an audience is shown."""
    if (audience.live_from_s, audience.live_until_s) == (live_from_s, live_until_s):
        return
    await audiences.set_window(conn, audience, live_from_s, live_until_s, now_s=by.now_s)
    detail = {"from_s": live_from_s, "until_s": live_until_s}
    await _note(conn, by, "audience window", audience, detail)


async def set_ttl(conn: AsyncConnection, by: By, audience: Audience, days: int | None) -> None:
    """Set the lifetime of memberships from future files."""
    await audiences.set_ttl(conn, audience, days, now_s=by.now_s)
    await _note(conn, by, "audience ttl", audience, {"before": audience.ttl_days, "after": days})


async def _note(
    conn: AsyncConnection, by: By, what: str, audience: Audience, detail: Detail | None = None
) -> None:
    owner = await accounts.account(conn, audience.owner_id)
    said = {"segment": audience.segment_id, **(detail or {})}
    await note(conn, by, what, f"audience {audience.id}", scope=owner, detail=said)
