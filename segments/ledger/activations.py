"""
Queries of activations: an audience, shown to a recipient in a window of its own.

An audience of the CRM door has a permanently closed window (see `close`), so code that ignores
activations never shows it. An activation opens it to a single recipient, under a segment id that no
other sees.
"""

import uuid
from collections.abc import Collection
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
    """A row of `activations`."""

    audience_id: int
    recipient_id: int
    segment_id: str  # as in bid requests
    name: str
    description: str | None
    live_from_s: int
    live_until_s: int  # exclusive
    flow_id: str  # of the last change


_COLUMNS = tuple(_activations.c[name] for name in Activation._fields)


async def close(conn: AsyncConnection, audience: Audience, *, now_s: float) -> None:
    """Hide an audience from recipients without an activation."""
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
    Show an audience to a recipient in a window, in place of any earlier activation.

    The segment id stays, so a buyer's line items survive a moved window. The `audience` is closed
    by `close`, not deleted; the caller checks that the `recipient` is granted the partner.
    `live_until_s` is exclusive. Name and description are for the partner alone.

    Raises:
        Refusal: The window ends before it begins.
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
    """Restore an activation's window from a published catalog."""
    await raise_revision(conn)
    await conn.execute(
        update(_activations)
        .where(
            _activations.c.audience_id == activation.audience_id,
            _activations.c.recipient_id == activation.recipient_id,
        )
        .values(live_from_s=live_from_s, live_until_s=live_until_s, updated_at_s=now_s)
    )


def is_closed(audience: Audience) -> bool:
    """Tell whether an audience is shown by its activations alone."""
    return audience.live_until_s == _NEVER_UNTIL_S


async def activations_of(conn: AsyncConnection, audience_ids: Collection[int]) -> list[Activation]:
    """Return the activations of some dozen audiences, oldest first."""
    return await _activations_of(conn, _activations.c.audience_id.in_(audience_ids))


async def activations(conn: AsyncConnection) -> list[Activation]:
    """Return all activations."""
    return await _activations_of(conn)


async def _activations_of(
    conn: AsyncConnection, *conditions: ColumnElement[bool]
) -> list[Activation]:
    asked = select(*_COLUMNS).where(*conditions).order_by(_activations.c.id)
    return [Activation(*row) for row in await conn.execute(asked)]


async def _free_segment_id(conn: AsyncConnection, partner_id: int, number: int) -> str:
    """Return an unused segment id of the partner."""
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
