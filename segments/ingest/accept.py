"""
Turns a delivery (an order with public ids, and a file) into a job.

    accounts  ->  blob  ->  job

The blob is written first, so no job refers to a missing file; a broken-off upload leaves no job. A
repeat of an unfinished delivery returns the first job.
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
    """The accounts of a delivery."""

    partner: Account  # shows the segments
    owner: Account  # has the persons: the partner, or one of its sub accounts


async def parties_of(conn: AsyncConnection, partner_id: str, sub_id: str | None) -> Parties:
    """
    Find the accounts of a delivery.

    Args:
        conn: The ledger.
        partner_id: The partner's public id.
        sub_id: The public id of the sub account that owns the persons. "Required for
            agencies, optional for others": an advertiser without sub accounts always owns them.

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
    Take in a delivery.

    Args:
        ledger: Receives the job.
        blobs: Receives the file.
        order: The delivery's request.
        content: The file.
        partner_id: See `parties_of`.
        sub_id: See `parties_of`.
        metadata: The basis of the door's answers: see `segments.ledger.jobs.submit`.
        door: The receiving door.
        file_name: The partner's name for the file.
        now_s: The time.
        transaction_id: The id already given to the partner; repeats of a delivery share a job.

    Returns:
        The queued job; or the existing job of a repeated delivery.

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
