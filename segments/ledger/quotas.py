"""
Queries of quotas: a partner's limits, and its use of them.

Use is counted from the jobs and audiences themselves, so no counter can drift. Of concurrent
deliveries only one gets the last place: the quota is checked under a submission's lock
(`segments.ledger.jobs`, `segments.ledger.audiences`). A door's check beforehand, without a lock,
spares a useless upload.
"""

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import audiences as _audiences
from segments.ledger.tables import jobs as _jobs
from segments.ledger.tables import quotas as _quotas
from segments.model import quota as law
from segments.model.audience import AudienceState
from segments.model.day import S_PER_DAY
from segments.model.job import NO_FILE
from segments.model.quota import UNLIMITED, Quota, Use


async def quota_of(conn: AsyncConnection, partner_id: int) -> Quota:
    """Return a partner's quota."""
    asked = select(*(_quotas.c[name] for name in Quota._fields)).where(
        _quotas.c.partner_id == partner_id
    )
    row = (await conn.execute(asked)).first()
    return UNLIMITED if row is None else Quota(*row)


async def quotas(conn: AsyncConnection) -> dict[int, Quota]:
    """Return all quotas, by partner's number."""
    columns = (_quotas.c[name] for name in Quota._fields)
    rows = await conn.execute(select(_quotas.c.partner_id, *columns))
    return {partner_id: Quota(*limits) for partner_id, *limits in rows}


async def set_quota(conn: AsyncConnection, partner_id: int, quota: Quota) -> None:
    """Set a partner's quota, from its next delivery on."""
    await conn.execute(delete(_quotas).where(_quotas.c.partner_id == partner_id))
    if quota != UNLIMITED:
        row = {"partner_id": partner_id, **quota._asdict()}
        await conn.execute(insert(_quotas).values(row))


async def use_of(conn: AsyncConnection, partner_id: int, now_s: float) -> Use:
    """Return a partner's use: of daily quotas, since midnight (UTC)."""
    size = func.coalesce(func.sum(_jobs.c.delivered_bytes), 0)
    midnight_s = int(now_s) // S_PER_DAY * S_PER_DAY
    of_partner = _jobs.c.partner_id == partner_id
    today = await conn.execute(
        select(func.count(), size).where(of_partner, _jobs.c.created_at_s >= midnight_s)
    )
    deliveries, delivered_bytes = today.one()
    kept_bytes = await conn.scalar(select(size).where(of_partner, _jobs.c.blob != NO_FILE))
    live = _audiences.c.state != AudienceState.DELETED.value
    count = select(func.count()).select_from(_audiences)
    audiences = await conn.scalar(count.where(_audiences.c.partner_id == partner_id, live))
    return Use(deliveries, int(delivered_bytes), int(kept_bytes or 0), audiences or 0)


async def check_delivery(
    conn: AsyncConnection, partner_id: int, size_bytes: int, now_s: float
) -> None:
    """
    Check that a partner may deliver another file, of `size_bytes` as far as known.

    In the partner's turn; a check beforehand takes any connection.

    Raises:
        segments.model.quota.OverQuota: It may not.
    """
    more = Use(deliveries_per_day=1, delivered_bytes_per_day=size_bytes, kept_bytes=size_bytes)
    await _check(conn, partner_id, more, now_s)


async def check_audience(conn: AsyncConnection, partner_id: int, now_s: float) -> None:
    """
    Check that a partner may add an audience; the transaction has the catalog's turn.

    Raises:
        segments.model.quota.OverQuota: It may not.
    """
    await _check(conn, partner_id, Use(audiences=1), now_s)


async def _check(conn: AsyncConnection, partner_id: int, more: Use, now_s: float) -> None:
    quota = await quota_of(conn, partner_id)
    if quota != UNLIMITED:
        law.check(quota, await use_of(conn, partner_id, now_s), more, now_s)
