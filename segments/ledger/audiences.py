"""Queries of audiences."""

import secrets
from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    String,
    cast,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import quotas
from segments.ledger.checked_text import checked_text
from segments.ledger.revision import lock_catalog, raise_revision
from segments.ledger.tables import accounts as _accounts
from segments.ledger.tables import activations, audience_counts, external_ids, uploads
from segments.ledger.tables import audiences as _audiences
from segments.ledger.tables import jobs as _jobs
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState
from segments.model.order import FIRST_GIVEN_ID
from segments.model.refusal import Duplicate, NotFound, Refusal

MAX_TTL_DAYS = 36_500

_COLUMNS = (
    _audiences.c.id,
    _audiences.c.owner_id,
    _audiences.c.partner_id,
    _audiences.c.segment_id,
    _audiences.c.name,
    _audiences.c.state,
    _audiences.c.live_from_s,
    _audiences.c.live_until_s,
    _audiences.c.ttl_days,
)


async def find_audience(conn: AsyncConnection, owner: Account, segment_id: str) -> Audience | None:
    """Return an owner's existing audience by segment id."""
    asked = _select(
        _audiences.c.owner_id == owner.id,
        _audiences.c.segment_id == segment_id,
        _audiences.c.state != AudienceState.DELETED.value,
    )
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else _audience(row)


async def deleted_audience(
    conn: AsyncConnection, owner: Account, segment_id: str, *, since_s: float
) -> Audience | None:
    """Return an owner's last audience of this segment id, deleted since `since_s`."""
    asked = _select(
        _audiences.c.owner_id == owner.id,
        _audiences.c.segment_id == segment_id,
        _audiences.c.state == AudienceState.DELETED.value,
        _audiences.c.updated_at_s >= since_s,
    )
    row = (await conn.execute(asked.order_by(_audiences.c.id.desc()).limit(1))).one_or_none()
    return None if row is None else _audience(row)


async def find_or_create_audience(
    conn: AsyncConnection,
    owner: Account,
    partner: Account,
    segment_id: str,
    name: str,
    *,
    now_s: float,
) -> Audience:
    """
    Return an owner's audience by segment id; create it if missing.

    The partner is the owner or its agency. An existing audience takes the name.

    Raises:
        Refusal: A text is unusable as an id or a name.
        segments.model.quota.OverQuota: The partner's quota of audiences is used up.
    """
    checked_text("segment id", segment_id, max_chars=64)
    checked_text("segment name", name, max_chars=256)
    await lock_catalog(conn)
    found = await find_audience(conn, owner, segment_id)
    if found is None:
        await quotas.check_audience(conn, partner.id, now_s)
        row = {
            "owner_id": owner.id,
            "partner_id": partner.id,
            "segment_id": segment_id,
            "name": name,
            "state": AudienceState.ACTIVE.value,
            "created_at_s": int(now_s),
            "updated_at_s": int(now_s),
        }
        inserted = await conn.execute(insert(_audiences).values(row).returning(_audiences.c.id))
        new_id: int = inserted.scalar_one()
        await raise_revision(conn)
        return Audience(new_id, owner.id, partner.id, segment_id, name)
    if found.name != name:
        # Not in bid requests, so the catalog's revision stays.
        await _set(conn, found.id, {"name": name}, now_s)
        found = await audience(conn, found.id)
    return found


async def add_audience(
    conn: AsyncConnection,
    owner: Account,
    partner: Account,
    name: str,
    *,
    external_id: str | None = None,
    ttl_days: int | None = None,
    now_s: float,
) -> Audience:
    """
    Add an audience under a segment id of ours: 13 digits that partners can't use, with the
    audience's number in them.

    The partner is the owner or its agency. `external_id` is the owner's id in other systems.
    `ttl_days` is a membership's lifetime; `None`: no expiry.

    Raises:
        Duplicate: The owner has an audience with this external id.
        Refusal: A text or `ttl_days` is out of bounds.
        segments.model.quota.OverQuota: The partner's quota of audiences is used up.
    """
    checked_text("name", name, max_chars=256)
    if ttl_days is not None and not 1 <= ttl_days <= MAX_TTL_DAYS:
        raise Refusal(f"{ttl_days} days, not 1 to {MAX_TTL_DAYS}")
    row = {
        "owner_id": owner.id,
        "partner_id": partner.id,
        "segment_id": f"new:{secrets.token_hex(16)}",
        "name": name,
        "state": AudienceState.ACTIVE.value,
        "ttl_days": ttl_days,
        "created_at_s": int(now_s),
        "updated_at_s": int(now_s),
    }
    await raise_revision(conn)
    await quotas.check_audience(conn, partner.id, now_s)
    inserted = await conn.execute(insert(_audiences).values(row).returning(_audiences.c.id))
    new_id: int = inserted.scalar_one()
    if external_id is not None:
        await _keep_external_id(conn, owner, external_id, new_id)
    segment_id = FIRST_GIVEN_ID + new_id
    while await find_audience(conn, owner, str(segment_id)) is not None:
        segment_id += 10**9  # the partner used it before the range was ours
    await _set(conn, new_id, {"segment_id": str(segment_id)}, now_s)
    return await audience(conn, new_id)


async def shared_ids(conn: AsyncConnection) -> list[tuple[str, str]]:
    """
    Return segment ids of ours, from a range that partners could use too, that a partner's own
    delivery has named since; each with the partner's id.
    """
    asked = (
        select(
            _audiences.c.id, _audiences.c.owner_id, _audiences.c.segment_id, _accounts.c.public_id
        )
        .join(_accounts, _accounts.c.id == _audiences.c.partner_id)
        .where(
            _audiences.c.state != AudienceState.DELETED.value,
            _audiences.c.segment_id == cast(_audiences.c.id, String),
            exists().where(uploads.c.audience_id == _audiences.c.id),
        )
        .order_by(_audiences.c.id)
    )
    candidates = (await conn.execute(asked)).all()
    return [
        (partner_id, segment_id)
        for _, owner_id, segment_id, partner_id in candidates
        if await _is_named_by_partner(conn, owner_id, segment_id)
    ]


async def _is_named_by_partner(conn: AsyncConnection, owner_id: int, segment_id: str) -> bool:
    orders = await conn.stream_scalars(
        select(_jobs.c.order).where(_jobs.c.owner_id == owner_id, _jobs.c.order.is_not(None))
    )
    try:
        async for order in orders:
            for segment in order["segments"]:
                if segment["segment_id"] == segment_id and segment.get("audience_id") is None:
                    return True
    finally:
        await orders.close()
    return False


async def find_audiences(
    conn: AsyncConnection, account: Account, segment_id: str
) -> list[Audience]:
    """Return an account's audiences by segment id; an agency's include its sub accounts'."""
    asked = _select(
        or_(_audiences.c.owner_id == account.id, _audiences.c.partner_id == account.id),
        _audiences.c.segment_id == segment_id,
        _audiences.c.state != AudienceState.DELETED.value,
    )
    return [_audience(row) for row in await conn.execute(asked.order_by(_audiences.c.id))]


async def audience(conn: AsyncConnection, audience_id: int) -> Audience:
    """
    Return an audience by its number, in any state.

    Raises:
        NotFound: No such audience.
    """
    row = (await conn.execute(_select(_audiences.c.id == audience_id))).one_or_none()
    if row is None:
        raise NotFound(f"there is no audience {audience_id}")
    return _audience(row)


async def audiences(conn: AsyncConnection, owner: Account | None = None) -> list[Audience]:
    """Return an owner's audiences, or all, also deleted; oldest first."""
    asked = _select(*([] if owner is None else [_audiences.c.owner_id == owner.id]))
    return [_audience(row) for row in await conn.execute(asked.order_by(_audiences.c.id))]


async def audiences_of_ids(conn: AsyncConnection, ids: Collection[int]) -> list[Audience]:
    """Return the audiences of known numbers, in any state."""
    asked = _select(_audiences.c.id.in_(sorted(ids)))
    return [_audience(row) for row in await conn.execute(asked)]


async def ids_of(conn: AsyncConnection, owner_ids: Collection[int]) -> frozenset[int]:
    """Return the numbers of these owners' audiences, also deleted; ten times as fast as rows."""
    return frozenset(
        await conn.scalars(select(_audiences.c.id).where(_audiences.c.owner_id.in_(owner_ids)))
    )


async def set_state(
    conn: AsyncConnection, audience: Audience, state: AudienceState, *, now_s: float
) -> None:
    """
    Show an audience, hide it, or delete it permanently.

    Raises:
        Refusal: The audience is deleted already.
    """
    _check_not_deleted(audience)
    await raise_revision(conn)
    await _set(conn, audience.id, {"state": state.value}, now_s)


async def delete_with_name(conn: AsyncConnection, audience: Audience, *, now_s: float) -> None:
    """
    Delete an audience with its name, activations, external ids, upload URLs and counts.

    The row stays, so that its number is never reused.
    """
    if audience.state is not AudienceState.DELETED:
        await set_state(conn, audience, AudienceState.DELETED, now_s=now_s)
    await conn.execute(update(_audiences).where(_audiences.c.id == audience.id).values(name=""))
    for table in (activations, uploads, external_ids, audience_counts):
        await conn.execute(delete(table).where(table.c.audience_id == audience.id))


async def set_window(
    conn: AsyncConnection,
    audience: Audience,
    live_from_s: int | None,
    live_until_s: int | None,
    *,
    now_s: float,
) -> None:
    """
    Set the window in which an audience is shown; `None` for no bound.

    Raises:
        Refusal: The window ends before it begins, or the audience is deleted.
    """
    _check_not_deleted(audience)
    if live_from_s is not None and live_until_s is not None and live_from_s >= live_until_s:
        raise Refusal("an activation window that ends before it begins")
    await raise_revision(conn)
    await _set(conn, audience.id, {"live_from_s": live_from_s, "live_until_s": live_until_s}, now_s)


async def set_name(conn: AsyncConnection, audience: Audience, name: str, *, now_s: float) -> None:
    """
    Rename an audience.

    Raises:
        Refusal: The text is unusable as a name, or the audience is deleted.
    """
    _check_not_deleted(audience)
    checked_text("name", name, max_chars=256)
    await lock_catalog(conn)
    await _set(conn, audience.id, {"name": name}, now_s)


async def set_ttl(
    conn: AsyncConnection, audience: Audience, ttl_days: int | None, *, now_s: float
) -> None:
    """
    Set the lifetime of memberships from future files; current memberships keep theirs.

    Raises:
        Refusal: Not 1 to `MAX_TTL_DAYS` days, or the audience is deleted.
    """
    _check_not_deleted(audience)
    if ttl_days is not None and not 1 <= ttl_days <= MAX_TTL_DAYS:
        raise Refusal(f"{ttl_days} days, not 1 to {MAX_TTL_DAYS}")
    await lock_catalog(conn)
    await _set(conn, audience.id, {"ttl_days": ttl_days}, now_s)


async def _keep_external_id(
    conn: AsyncConnection, owner: Account, external_id: str, audience_id: int
) -> None:
    checked_text("external id", external_id, max_chars=256)
    same = (external_ids.c.owner_id == owner.id, external_ids.c.external_id == external_id)
    deleted = select(_audiences.c.id).where(_audiences.c.state == AudienceState.DELETED.value)
    await conn.execute(delete(external_ids).where(*same, external_ids.c.audience_id.in_(deleted)))
    row = {"owner_id": owner.id, "external_id": external_id, "audience_id": audience_id}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(external_ids).values(row))
    except IntegrityError:
        raise Duplicate(f"there is an audience of the external id {external_id} already") from None


def _check_not_deleted(audience: Audience) -> None:
    if audience.state is AudienceState.DELETED:
        raise Refusal(f"audience {audience.id} was deleted")


async def _set(
    conn: AsyncConnection, audience_id: int, column_to_value: dict[str, Any], now_s: float
) -> None:
    await conn.execute(
        update(_audiences)
        .where(_audiences.c.id == audience_id)
        .values(**column_to_value, updated_at_s=int(now_s))
    )


def _select(*conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    return select(*_COLUMNS).where(*conditions)


def _audience(row: Row[*tuple[Any, ...]]) -> Audience:
    return Audience(**{**row._asdict(), "state": AudienceState(row.state)})
