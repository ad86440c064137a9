"""
A delivery becomes a job: an order, whose it is by public ids, and a file.

    accounts  ->  blob  ->  job

The blob is written first, so a job never names a file that is not there; an
upload that breaks off leaves no job. The same delivery once more, while its
first is unfinished, is the first.
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
from segments.model.stop_reason import Stopped, StopReason


class Parties(NamedTuple):
    """Whose delivery it is."""

    partner: Account  # shows the segments
    owner: Account  # has the persons: the partner, or the sub account it names


async def parties_of(conn: AsyncConnection, partner_id: str, sub_id: str | None) -> Parties:
    """
    Find the accounts of a delivery.

    Args:
        conn: The ledger.
        partner_id: What the partner is called outside.
        sub_id: Likewise, the partner's sub account whose persons these are. "Required for
            agencies, optional for others": of an advertiser that has no sub accounts it says
            nothing, and the persons are its own.

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
        ledger: Where the job goes.
        blobs: Where the file goes.
        order: What to do with it.
        content: The file.
        partner_id: As of `parties_of`.
        sub_id: Likewise.
        metadata: What its door answers from: see `segments.ledger.jobs.submit`.
        door: Who takes it in.
        file_name: What the partner calls the file.
        now_s: When.
        transaction_id: What the partner was told already; a delivery has one
            job, however often it is taken in.

    Returns:
        Its job, queued; or, of a delivery that was begun before, as it stands.

    Raises:
        Stopped: UNKNOWN_PARTNER or UNKNOWN_SUB_ID; nothing was kept.
    """
    async with reading(ledger) as conn:
        partner, owner = await parties_of(conn, partner_id, sub_id)
    blob = delivery_name(partner.id)
    stored = await blobs.put(blob, content)
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
        )
    if job.blob != blob:
        await blobs.delete(blob)
    return job
