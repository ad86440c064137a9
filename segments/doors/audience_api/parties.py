"""Resolves callers, audiences, owners and partners for the Audience API."""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.rest.problem import Problem
from segments.ledger import accounts, audiences
from segments.model.account import Account, AccountKind
from segments.model.audience import Audience


async def owner_and_partner(
    conn: AsyncConnection, account: Account, advertiser: str
) -> tuple[Account, Account]:
    """
    Return an audience's owner and partner, by the advertiser that a caller names.

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

    `segment_id` is as in bid requests; `advertiser` is the owning sub account of an agency, `None`
    if the id is unambiguous.

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
