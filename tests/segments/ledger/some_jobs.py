"""Jobs of two partners, each step in a transaction of its own."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, job_leases, jobs
from segments.model.account import AccountKind
from segments.model.job import Job
from segments.model.order import Order, SegmentAction, SegmentOrder

NOW_S = 1_000_000.0
ORDER = Order((SegmentOrder("123", "Shoes", SegmentAction.ADD),))


async def added_partners(ledger: AsyncEngine) -> list[int]:
    """Two partners, by the numbers of their accounts."""
    async with ledger.begin() as conn:
        added = [
            await accounts.add_account(conn, AccountKind.ADVERTISER, name, name, now_s=0)
            for name in "ab"
        ]
    return [account.id for account in added]


async def submit(ledger: AsyncEngine, partner_id: int, sha256: str = "1", **fields: Any) -> Job:
    how = {"order": ORDER, "metadata": {"n": 1}, "blob": "blob", **fields}
    async with ledger.begin() as conn:
        return await jobs.submit(
            conn,
            door="test",
            partner_id=partner_id,
            owner_id=partner_id,
            sha256=sha256,
            file_name="a.txt",
            now_s=NOW_S,
            **how,
        )


async def claim(
    ledger: AsyncEngine, now_s: float = NOW_S, partner_id: int | None = None
) -> Job | None:
    async with ledger.begin() as conn:
        return await job_leases.claim(conn, now_s, partner_id)


async def save(ledger: AsyncEngine, job: Job, now_s: float = NOW_S) -> None:
    async with ledger.begin() as conn:
        await job_leases.save(conn, job, now_s)


async def get(ledger: AsyncEngine, name: int | str) -> Job | None:
    async with ledger.connect() as conn:
        return await jobs.job(conn, name)
