from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note, was_done
from segments.ledger import recipient_tokens, recipients
from segments.ledger.recipient_tokens import RecipientToken
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
    """Grant a recipient a partner's segments."""
    await recipients.grant(conn, recipient, partner)
    detail = {"partner": partner.public_id}
    await note(conn, by, "recipient grant", recipient.name, scope=partner, detail=detail)


async def revoke(conn: AsyncConnection, by: By, recipient: Recipient, partner: Account) -> None:
    """Withdraw a partner's segments from a recipient."""
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


async def set_certificates(
    conn: AsyncConnection, by: By, recipient: Recipient, names: Sequence[str] | None
) -> None:
    """Require a client certificate with any of these names; `None` lifts the requirement."""
    if names is not None and recipient.certificates == tuple(sorted(set(names))):
        return
    await recipients.set_certificates(conn, recipient, names)
    detail = {"names": None if names is None else ", ".join(sorted(set(names)))}
    await note(conn, by, "recipient certificate", recipient.name, detail=detail)


async def issue_token(
    conn: AsyncConnection, by: By, recipient: Recipient, *, is_needed: bool
) -> tuple[RecipientToken, str]:
    """Issue a token; return its row and its secret, which the trail never holds."""
    drawn, secret = await recipient_tokens.issue(
        conn, recipient, is_needed=is_needed, now_s=by.now_s
    )
    detail = {"token": drawn.id, "needed": is_needed or recipient.needs_token}
    await note(conn, by, "recipient token issue", recipient.name, detail=detail)
    return drawn, secret


async def rotate_token(
    conn: AsyncConnection, by: By, recipient: Recipient
) -> tuple[RecipientToken, str]:
    """Issue a token; of the older tokens only the newest stays valid."""
    drawn, secret = await recipient_tokens.rotate(conn, recipient, now_s=by.now_s)
    detail = {"token": drawn.id}
    await note(conn, by, "recipient token rotate", recipient.name, detail=detail)
    return drawn, secret


async def revoke_token(conn: AsyncConnection, by: By, recipient: Recipient, number: int) -> None:
    """Revoke a token."""
    if await recipient_tokens.revoke(conn, recipient, number, now_s=by.now_s):
        detail = {"token": number}
        await note(conn, by, "recipient token revoke", recipient.name, detail=detail)


async def need_token(conn: AsyncConnection, by: By, recipient: Recipient) -> None:
    """Require a token for bids of a recipient."""
    if not recipient.needs_token:
        await recipient_tokens.need(conn, recipient)
        await note(conn, by, "recipient token need", recipient.name)


async def waive_token(conn: AsyncConnection, by: By, recipient: Recipient) -> None:
    """Stop requiring a token of a recipient, and revoke its tokens."""
    await recipient_tokens.waive(conn, recipient, now_s=by.now_s)
    await note(conn, by, "recipient token waive", recipient.name)
