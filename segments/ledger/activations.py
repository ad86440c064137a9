"""
Queries of activations: one audience, shown to one recipient in a window of its own.

An audience of the CRM door is shown to nobody by itself: its own window is
closed for good (`closed`), so whoever does not know of activations shows it to
no one. Each activation opens it to one recipient, under a segment id that no
other recipient sees, from one second until another.

All take a connection, so that several make one transaction; all that change
what the bid path sees raise the catalog's revision.
"""

import uuid
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.audiences import set_window
from segments.ledger.recipients import Recipient
from segments.ledger.revision import raise_revision
from segments.ledger.tables import activations as _activations
from segments.ledger.tables import audiences as _audiences
from segments.model.audience import Audience, AudienceState
from segments.model.refusal import Refusal

_NEVER_UNTIL_S = 0
_APART = 10**9


class Activation(NamedTuple):
    """One row of the ledger's activations."""

    audience_id: int
    recipient_id: int
    segment_id: str  # as shown in a bid request
    name: str
    description: str | None
    live_from_s: int
    live_until_s: int  # the first second it is not shown
    flow_id: str  # of the last change


_COLUMNS = tuple(_activations.c[name] for name in Activation._fields)


async def close(conn: AsyncConnection, audience: Audience, *, now_s: float) -> None:
    """Show an audience to nobody but those whom it is activated for."""
    await set_window(conn, audience, None, _NEVER_UNTIL_S, now_s=now_s)


async def activate(
    conn: AsyncConnection,
    audience: Audience,
    recipient: Recipient,
    *,
    name: str,
    description: str | None,
    live_from_s: int,
    live_until_s: int,
    now_s: float,
) -> Activation:
    """
    Show an audience to a recipient in a window; a later one replaces an earlier.

    The segment id stays, so a buyer's line items go on when a window moves.

    Args:
        conn: A transaction.
        audience: Not deleted, and `close`d.
        recipient: Whom; whether it is granted the partner is the caller's to ask.
        name: Of the segment, as the partner calls it; not shown.
        description: Likewise.
        live_from_s: Unix time of the first second.
        live_until_s: And of the first one after it.
        now_s: When.

    Raises:
        Refusal: A window that ends before it begins.
    """
    if live_from_s >= live_until_s:
        raise Refusal("an activation window that ends before it begins")
    await raise_revision(conn)
    said = {
        "name": name,
        "description": description,
        "live_from_s": live_from_s,
        "live_until_s": live_until_s,
        "flow_id": str(uuid.uuid4()),
        "updated_at_s": now_s,
    }
    which = (
        _activations.c.audience_id == audience.id,
        _activations.c.recipient_id == recipient.id,
    )
    renewed = await conn.execute(update(_activations).where(*which).values(said))
    if not renewed.rowcount:
        row = {**said, "audience_id": audience.id, "recipient_id": recipient.id, "segment_id": ""}
        inserted = await conn.execute(insert(_activations).values(row).returning(_activations.c.id))
        new_id: int = inserted.scalar_one()
        segment_id = await _free_segment_id(conn, audience.partner_id, new_id)
        await conn.execute(update(_activations).where(*which).values(segment_id=segment_id))
    (activation,) = await _activations_of(conn, *which)
    return activation


async def move(
    conn: AsyncConnection,
    activation: Activation,
    live_from_s: int,
    live_until_s: int,
    *,
    now_s: float,
) -> None:
    """Show it from when until when a catalog said that was published."""
    await raise_revision(conn)
    await conn.execute(
        update(_activations)
        .where(
            _activations.c.audience_id == activation.audience_id,
            _activations.c.recipient_id == activation.recipient_id,
        )
        .values(live_from_s=live_from_s, live_until_s=live_until_s, updated_at_s=now_s)
    )


async def activations_of(conn: AsyncConnection, audience: Audience) -> list[Activation]:
    """Return the activations of an audience, the oldest first."""
    return await _activations_of(conn, _activations.c.audience_id == audience.id)


async def activations(conn: AsyncConnection) -> list[Activation]:
    """Return all activations."""
    return await _activations_of(conn)


async def _activations_of(
    conn: AsyncConnection, *conditions: ColumnElement[bool]
) -> list[Activation]:
    asked = select(*_COLUMNS).where(*conditions).order_by(_activations.c.id)
    return [Activation(*row) for row in await conn.execute(asked)]


async def _free_segment_id(conn: AsyncConnection, partner_id: int, number: int) -> str:
    """Return a segment id that the partner shows nothing else by, a number far from its others."""
    while True:
        number += _APART
        shown = select(_audiences.c.id).where(
            _audiences.c.partner_id == partner_id,
            _audiences.c.segment_id == str(number),
            _audiences.c.state != AudienceState.DELETED.value,
        )
        if not await _is_any(conn, shown) and not await _is_any(
            conn, select(_activations.c.id).where(_activations.c.segment_id == str(number))
        ):
            return str(number)


async def _is_any(conn: AsyncConnection, asked: Any) -> bool:
    return (await conn.execute(asked.limit(1))).first() is not None
