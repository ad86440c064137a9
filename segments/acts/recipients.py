"""Acts on recipients and grants; what each does, `segments.ledger.recipients` says."""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note, was_done
from segments.ledger import recipients
from segments.ledger.recipients import Recipient
from segments.model.account import Account


async def add_recipient(
    conn: AsyncConnection, by: By, name: str, *, hold_out: float = 0.0
) -> Recipient:
    """Add a recipient."""
    added = await recipients.add_recipient(conn, name, hold_out=hold_out, now_s=by.now_s)
    await note(conn, by, "recipient add", name, detail={"hold_out": hold_out})
    return added


async def grant(conn: AsyncConnection, by: By, recipient: Recipient, partner: Account) -> None:
    """Let a recipient see a partner's segments."""
    await recipients.grant(conn, recipient, partner)
    detail = {"partner": partner.public_id}
    await note(conn, by, "recipient grant", recipient.name, scope=partner, detail=detail)


async def revoke(conn: AsyncConnection, by: By, recipient: Recipient, partner: Account) -> None:
    """Show a partner's segments to a recipient no longer."""
    what = "recipient revoke"
    is_granted = partner.id in recipient.partner_ids
    if not is_granted and await was_done(conn, by, what, recipient.name, partner):
        return
    await recipients.revoke(conn, recipient, partner)
    detail = {"partner": partner.public_id}
    await note(conn, by, what, recipient.name, scope=partner, detail=detail)


async def set_hold_out(
    conn: AsyncConnection, by: By, recipient: Recipient, hold_out: float
) -> None:
    """Leave a fraction of persons unenriched for a recipient."""
    if hold_out == recipient.hold_out:
        return
    await recipients.set_hold_out(conn, recipient, hold_out)
    detail = {"before": recipient.hold_out, "after": hold_out}
    await note(conn, by, "recipient hold-out", recipient.name, detail=detail)


async def set_recipient_active(
    conn: AsyncConnection, by: By, recipient: Recipient, *, is_active: bool
) -> None:
    """Switch a recipient on or off."""
    if is_active == recipient.is_active:
        return
    await recipients.set_recipient_active(conn, recipient, is_active)
    what = "recipient activate" if is_active else "recipient deactivate"
    await note(conn, by, what, recipient.name)
