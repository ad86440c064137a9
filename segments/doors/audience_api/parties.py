"""Which of their audiences a caller of the Audience API means, and whose these are."""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.rest.problem import Problem
from segments.ledger import accounts, audiences
from segments.model.account import Account, AccountKind
from segments.model.audience import Audience


async def owner_and_partner(
    conn: AsyncConnection, account: Account, advertiser: str
) -> tuple[Account, Account]:
    """
    Return whose an audience is that a caller names an advertiser for, and who shows it.

    Raises:
        Problem: 403.
    """
    if account.kind is AccountKind.AGENCY:
        owner = await accounts.find_sub_account(conn, account, advertiser)
        if owner is not None and owner.is_active:
            return owner, account
    elif advertiser == account.public_id:
        return account, await accounts.partner_of(conn, account)
    raise Problem(403, "this advertiser is not one of yours")


async def audience_of(
    conn: AsyncConnection, account: Account, segment_id: str, advertiser: str | None
) -> Audience:
    """
    Return a caller's audience.

    Args:
        conn: The ledger.
        account: The caller's.
        segment_id: As bid requests show it.
        advertiser: Which of an agency's sub accounts has it; `None` if it is one's only.

    Raises:
        Problem: 403, 404, 409.
    """
    found = await audiences.find_audiences(conn, account, segment_id)
    if advertiser is not None:
        owner, _ = await owner_and_partner(conn, account, advertiser)
        found = [audience for audience in found if audience.owner_id == owner.id]
    if not found:
        raise Problem(404, "you have no audience of this id")
    if len(found) > 1:
        raise Problem(409, "several of your advertisers have this audience; add ?advertiser=")
    return found[0]
