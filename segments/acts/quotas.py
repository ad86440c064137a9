from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger import quotas
from segments.model.account import Account
from segments.model.quota import Quota


async def set_quota(conn: AsyncConnection, by: By, partner: Account, quota: Quota) -> None:
    """Set a partner's quota; existing usage is unaffected."""
    if quota == await quotas.quota_of(conn, partner.id):
        return
    await quotas.set_quota(conn, partner.id, quota)
    await note(conn, by, "account quota", partner.public_id, scope=partner, detail=quota._asdict())
