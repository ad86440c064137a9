"""
Queries of campaigns, and of the CRM door's data of its audiences.

An audience's row here has its number in `audiences`, and outlives that row, without the
description, so that the number's owner stays known.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Row, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import activations, audiences
from segments.ledger.audiences import add_audience
from segments.ledger.checked_text import checked_text
from segments.ledger.tables import audiences as _audiences
from segments.ledger.tables import campaigns as _campaigns
from segments.ledger.tables import crm_audiences as _crm_audiences
from segments.ledger.users import User
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState
from segments.model.order import Order
from segments.model.refusal import NotFound


class Campaign(NamedTuple):
    """A row of `campaigns`."""

    id: int
    account_id: int
    name: str
    created_at_s: float


class CrmAudience(NamedTuple):
    """An audience of the CRM door, and its campaign."""

    audience: Audience
    campaign: Campaign
    user_id: int
    description: str | None
    created_at_s: float
    updated_at_s: float


_CAMPAIGN_COLUMNS = tuple(_campaigns.c[name] for name in Campaign._fields)


async def add_campaign(
    conn: AsyncConnection, account: Account, name: str, *, now_s: float
) -> Campaign:
    """
    Add a campaign, with a name that need not be unique.

    Raises:
        Refusal: The text is unusable as a name.
    """
    checked_text("name", name, max_chars=256)
    row = {"account_id": account.id, "name": name, "created_at_s": now_s}
    inserted = await conn.execute(insert(_campaigns).values(row).returning(*_CAMPAIGN_COLUMNS))
    return Campaign(*inserted.one())


async def campaign(conn: AsyncConnection, account: Account, campaign_id: int) -> Campaign:
    """
    Return a campaign of an account.

    Raises:
        NotFound: The account has no such campaign.
    """
    asked = select(*_CAMPAIGN_COLUMNS).where(
        _campaigns.c.id == campaign_id, _campaigns.c.account_id == account.id
    )
    row = (await conn.execute(asked)).one_or_none()
    if row is None:
        raise NotFound(f"you have no campaign {campaign_id}")
    return Campaign(*row)


async def create(
    conn: AsyncConnection,
    campaign: Campaign,
    user: User,
    owner: Account,
    partner: Account,
    *,
    name: str,
    description: str | None,
    now_s: float,
) -> CrmAudience:
    """
    Add an audience that is hidden until its first activation.

    The campaign is the owner's; the partner is the owner or its agency.

    Raises:
        Refusal: A text is unusable.
    """
    added = await add_audience(conn, owner, partner, name, now_s=now_s)
    await activations.close(conn, added, now_s=now_s)
    row = {
        "audience_id": added.id,
        "campaign_id": campaign.id,
        "user_id": user.id,
        "description": description,
        "created_at_s": now_s,
        "updated_at_s": now_s,
    }
    await conn.execute(insert(_crm_audiences).values(row))
    return await crm_audience(conn, owner, int(added.segment_id))


async def crm_audience(conn: AsyncConnection, owner: Account, number: int) -> CrmAudience:
    """
    Return an owner's audience of this door by its segment id.

    The owner may use the ledger's number as another segment id.

    Raises:
        NotFound: The owner has no such audience.
    """
    asked = (
        select(_crm_audiences, *(c.label(f"campaign_{c.name}") for c in _CAMPAIGN_COLUMNS[1:]))
        .join(_campaigns, _campaigns.c.id == _crm_audiences.c.campaign_id)
        .join(_audiences, _audiences.c.id == _crm_audiences.c.audience_id)
        .where(
            _audiences.c.segment_id == str(number),
            _audiences.c.owner_id == owner.id,
            _audiences.c.state != AudienceState.DELETED.value,
        )
    )
    row = (await conn.execute(asked)).one_or_none()
    if row is None:
        raise NotFound(f"you have no audience {number}")
    return _crm_audience(row, await audiences.audience(conn, row.audience_id))


async def is_deleted(conn: AsyncConnection, owner: Account, number: int, after_s: float) -> bool:
    """Tell whether an owner's audience of this door was deleted after `after_s`."""
    asked = (
        select(_audiences.c.id)
        .join(_crm_audiences, _crm_audiences.c.audience_id == _audiences.c.id)
        .where(
            _audiences.c.segment_id == str(number),
            _audiences.c.owner_id == owner.id,
            _audiences.c.state == AudienceState.DELETED.value,
            _audiences.c.updated_at_s > after_s,
        )
    )
    return (await conn.execute(asked)).first() is not None


async def change(
    conn: AsyncConnection,
    crm: CrmAudience,
    owner: Account,
    said: Mapping[str, str | None],
    *,
    now_s: float,
) -> CrmAudience:
    """
    Change an audience's `name`, `description` or both; a description may be `None`.

    Raises:
        Refusal: A text is unusable.
    """
    if said.get("name") is not None:
        await audiences.set_name(conn, crm.audience, str(said["name"]), now_s=now_s)
    changed: dict[str, Any] = {"updated_at_s": now_s}
    if "description" in said:
        changed["description"] = said["description"]
    await conn.execute(
        update(_crm_audiences)
        .where(_crm_audiences.c.audience_id == crm.audience.id)
        .values(changed)
    )
    return await crm_audience(conn, owner, int(crm.audience.segment_id))


async def named(conn: AsyncConnection, owner_id: int, order: Order) -> dict[int, str]:
    """
    Return this door's audiences that a delivery targets, with their segment ids.

    Deleted audiences too: a later file must not create an audience that every recipient sees.
    """
    given = [s.audience_id for s in order.segments if s.audience_id is not None]
    segment_ids = [s.segment_id for s in order.segments if s.audience_id is None]
    of_owner = and_(_audiences.c.owner_id == owner_id, _audiences.c.segment_id.in_(segment_ids))
    asked = (
        select(
            _audiences.c.id,
            _audiences.c.segment_id,
            _audiences.c.state,
            _crm_audiences.c.audience_id.is_not(None).label("is_crm"),
        )
        .outerjoin(_crm_audiences, _crm_audiences.c.audience_id == _audiences.c.id)
        .where(or_(_audiences.c.id.in_(given), of_owner))
    )
    rows = (await conn.execute(asked)).all()
    live = {row.segment_id for row in rows if row.state != AudienceState.DELETED.value}
    return {
        row.id: row.segment_id
        for row in rows
        if row.is_crm
        and (
            row.id in given
            or row.state != AudienceState.DELETED.value
            or row.segment_id not in live
        )
    }


async def of_this_door(conn: AsyncConnection, audience_ids: Collection[int]) -> set[int]:
    """Return this door's audiences among these, deleted ones too."""
    numbers = _crm_audiences.c.audience_id
    return set(await conn.scalars(select(numbers).where(numbers.in_(audience_ids))))


async def states(conn: AsyncConnection, audience_ids: Collection[int]) -> dict[int, AudienceState]:
    """Return the states of audiences."""
    asked = select(_audiences.c.id, _audiences.c.state).where(_audiences.c.id.in_(audience_ids))
    return {row.id: AudienceState(row.state) for row in await conn.execute(asked)}


def _crm_audience(row: Row[Any], audience: Audience) -> CrmAudience:
    campaign = Campaign(
        row.campaign_id, row.campaign_account_id, row.campaign_name, row.campaign_created_at_s
    )
    return CrmAudience(
        audience, campaign, row.user_id, row.description, row.created_at_s, row.updated_at_s
    )
