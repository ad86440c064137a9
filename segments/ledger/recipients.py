"""Queries of recipients, the bidders, and of the partners granted to them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.revision import lock_catalog, raise_revision
from segments.ledger.tables import accounts, recipient_grants
from segments.ledger.tables import recipients as _recipients
from segments.model.account import PARTNERS, Account
from segments.model.refusal import Duplicate, NotFound, Refusal

# Part of a URL's path and of a metric's label.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Recipient:
    """A row of `recipients`, and the partners granted to it."""

    id: int
    name: str  # as in `/openrtb2/enrich/{recipient}`
    partner_ids: tuple[int, ...] = ()
    hold_out: float = 0.0  # fraction of persons left unenriched
    is_active: bool = True
    created_at_s: int = 0
    needs_token: bool = False  # see segments.ledger.recipient_tokens
    # The client's certificate must have any of these names; `None`: no certificate needed.
    certificates: tuple[str, ...] | None = None


async def add_recipient(
    conn: AsyncConnection, name: str, *, hold_out: float = 0.0, now_s: float
) -> Recipient:
    """
    Add a recipient without grants.

    Raises:
        Duplicate: A recipient with this name exists.
        Refusal: The name can't be part of a URL, or `hold_out` is no fraction.
    """
    if not _NAME.fullmatch(name):
        raise Refusal(
            "a recipient's name is 1 to 128 letters, digits, '.', '_', '-', and begins with"
            " a letter or digit"
        )
    row = {"name": name, "hold_out": _fraction(hold_out), "created_at_s": int(now_s)}
    await lock_catalog(conn)
    try:
        async with conn.begin_nested():
            inserted = await conn.execute(
                insert(_recipients).values(row).returning(_recipients.c.id)
            )
            new_id: int = inserted.scalar_one()
    except IntegrityError:
        raise Duplicate(f"there is a recipient {name} already") from None
    await raise_revision(conn)
    return Recipient(new_id, name, hold_out=hold_out, created_at_s=int(now_s))


async def grant(conn: AsyncConnection, recipient: Recipient, partner: Account) -> None:
    """
    Grant a recipient a partner's segments.

    Raises:
        Refusal: The account is no partner: a publisher, say.
    """
    space = await conn.scalar(select(accounts.c.id_space).where(accounts.c.id == partner.id))
    if space != PARTNERS:
        raise Refusal(f"{partner.public_id} is no partner: it shows no segments of its own")
    pair = {"recipient_id": recipient.id, "partner_id": partner.id}
    await lock_catalog(conn)
    try:
        async with conn.begin_nested():
            await conn.execute(insert(recipient_grants).values(pair))
    except IntegrityError:
        return
    await raise_revision(conn)


async def revoke(conn: AsyncConnection, recipient: Recipient, partner: Account) -> None:
    """
    Withdraw a partner's segments from a recipient.

    Raises:
        NotFound: They were not granted.
    """
    if partner.id not in recipient.partner_ids:
        raise NotFound(f"recipient {recipient.name} has no grant of partner {partner.public_id}")
    await raise_revision(conn)
    await conn.execute(
        delete(recipient_grants).where(
            recipient_grants.c.recipient_id == recipient.id,
            recipient_grants.c.partner_id == partner.id,
        )
    )


async def set_hold_out(conn: AsyncConnection, recipient: Recipient, hold_out: float) -> None:
    """
    Set the fraction of persons left unenriched for a recipient.

    Raises:
        Refusal: Not a fraction.
    """
    column_to_value = {"hold_out": _fraction(hold_out)}
    await raise_revision(conn)
    await conn.execute(
        update(_recipients).where(_recipients.c.id == recipient.id).values(column_to_value)
    )


async def set_certificates(
    conn: AsyncConnection, recipient: Recipient, names: Sequence[str] | None
) -> None:
    """
    Require a client certificate with any of these names; `None` lifts the requirement.

    `segments.runtime.client_certificates` defines their form.
    """
    certificates = None if names is None else sorted(set(names))
    await raise_revision(conn)
    await conn.execute(
        update(_recipients)
        .where(_recipients.c.id == recipient.id)
        .values(certificates=certificates)
    )


async def set_recipient_active(
    conn: AsyncConnection, recipient: Recipient, is_active: bool
) -> None:
    """Switch a recipient on or off. Off, its URL is unknown."""
    await raise_revision(conn)
    await conn.execute(
        update(_recipients).where(_recipients.c.id == recipient.id).values(is_active=is_active)
    )


async def recipient(conn: AsyncConnection, name: str) -> Recipient:
    """
    Return a recipient by its name.

    Raises:
        NotFound: No such recipient.
    """
    for found in await recipients(conn):
        if found.name == name:
            return found
    raise NotFound(f"there is no recipient {name}")


async def recipients(conn: AsyncConnection) -> list[Recipient]:
    """Return all recipients with their grants, oldest first."""
    recipient_to_partners: dict[int, list[int]] = {}
    columns = (recipient_grants.c.recipient_id, recipient_grants.c.partner_id)
    for recipient_id, partner_id in await conn.execute(select(*columns).order_by(*columns)):
        recipient_to_partners.setdefault(recipient_id, []).append(partner_id)
    rows = await conn.execute(select(_recipients).order_by(_recipients.c.id))
    return [
        Recipient(
            row.id,
            row.name,
            tuple(recipient_to_partners.get(row.id, ())),
            row.hold_out,
            row.is_active,
            row.created_at_s,
            row.needs_token,
            None if row.certificates is None else tuple(row.certificates),
        )
        for row in rows
    ]


async def granted(conn: AsyncConnection, partner: Account) -> list[Recipient]:
    """Return a partner's active recipients, oldest first."""
    return [
        recipient
        for recipient in await recipients(conn)
        if recipient.is_active and partner.id in recipient.partner_ids
    ]


def _fraction(number: float) -> float:
    if not 0 <= number <= 1:
        raise Refusal("a hold-out is a fraction, 0 to 1")
    return number
