"""Acts on activations: an audience of the CRM door, shown to one recipient in a window."""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger import accounts, activations
from segments.ledger.activations import Activation
from segments.ledger.recipients import Recipient
from segments.model.audience import Audience


async def activate(
    conn: AsyncConnection,
    by: By,
    audience: Audience,
    recipient: Recipient,
    *,
    name: str,
    description: str | None,
    live_from_s: int,
    live_until_s: int,
) -> Activation:
    """
    Show an audience to a recipient in a window, in place of any earlier activation.

    The caller checks that the recipient is granted the partner. A window that has ended ends it.

    Raises:
        Refusal: The window ends before it begins.
    """
    made = await activations.activate(
        conn,
        audience,
        recipient,
        name=name,
        description=description,
        live_from_s=live_from_s,
        live_until_s=live_until_s,
        now_s=by.now_s,
    )
    await note(
        conn,
        by,
        "audience activation",
        f"audience {audience.id}",
        scope=await accounts.account(conn, audience.owner_id),
        detail={
            "recipient": recipient.name,
            "segment": made.segment_id,
            "from_s": live_from_s,
            "until_s": live_until_s,
        },
    )
    return made
