"""
Turns a delivery (an order with public ids, and a file) into a job: accounts, then blob, then job.

The blob comes first, so no job refers to a missing file. A repeat of an unfinished delivery returns
its job.
"""

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.files.blobs import Blobs, delivery_name
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import reading
from segments.model.account import Account, AccountKind
from segments.model.job import Job
from segments.model.order import Order
from segments.model.quota import OverQuota
from segments.model.stop_reason import Stopped, StopReason


class Parties(NamedTuple):
    """A delivery's accounts."""

    partner: Account  # shows the segments
    owner: Account  # has the persons: the partner or one of its sub accounts


async def parties_of(conn: AsyncConnection, partner_id: str, sub_id: str | None) -> Parties:
    """
    Find the accounts of a delivery.

    `sub_id` is the persons' owner: "Required for agencies, optional for others"; an advertiser
    without sub accounts always owns them.

    Raises:
        Stopped: UNKNOWN_PARTNER or UNKNOWN_SUB_ID.
    """
    partner = await accounts.find_partner(conn, partner_id)
    if partner is None or not partner.is_active:
        raise Stopped(StopReason.UNKNOWN_PARTNER, "no active partner has this id")
    if sub_id is None:
        if partner.kind is AccountKind.AGENCY:
            raise Stopped(StopReason.UNKNOWN_SUB_ID, "an agency names one of its sub accounts")
        return Parties(partner, partner)
    owner = await accounts.find_sub_account(conn, partner, sub_id)
    if owner is None and partner.kind is not AccountKind.AGENCY:
        owner = None if await accounts.has_sub_accounts(conn, partner) else partner
    if owner is None or not owner.is_active:
        raise Stopped(StopReason.UNKNOWN_SUB_ID, "the partner has no active sub account of this id")
    return Parties(partner, owner)


async def accept(
    ledger: AsyncEngine,
    blobs: Blobs,
    order: Order,
    content: Iterable[bytes] | AsyncIterable[bytes],
    *,
    partner_id: str,
    sub_id: str | None,
    metadata: Mapping[str, Any],
    door: str,
    file_name: str,
    now_s: float,
    transaction_id: str | None = None,
) -> Job:
    """
    Take in a delivery; for a repeat, return the existing job.

    `metadata` is the basis of the door's answers (`segments.ledger.jobs.submit`); `transaction_id`
    was given to the partner.

    Raises:
        Stopped: UNKNOWN_PARTNER, UNKNOWN_SUB_ID or OVER_QUOTA; nothing was kept.
    """
    async with reading(ledger) as conn:
        partner, owner = await parties_of(conn, partner_id, sub_id)
    blob = delivery_name(partner.id)
    stored = await blobs.put(blob, content)
    try:
        async with ledger.begin() as conn:
            job = await jobs.submit(
                conn,
                door=door,
                partner_id=partner.id,
                owner_id=owner.id,
                order=order,
                metadata=metadata,
                blob=blob,
                sha256=stored.sha256,
                file_name=file_name,
                now_s=now_s,
                transaction_id=transaction_id,
                size_bytes=stored.size_bytes,
            )
    except OverQuota as over:
        await blobs.delete(blob)
        raise Stopped(StopReason.OVER_QUOTA, str(over)) from None
    if job.blob != blob:
        await blobs.delete(blob)
    return job
