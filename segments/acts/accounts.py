from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger import accounts
from segments.model.account import Account, AccountKind


async def add_account(
    conn: AsyncConnection,
    by: By,
    kind: AccountKind,
    public_id: str,
    name: str,
    *,
    parent: Account | None = None,
    segtax: int | None = None,
) -> Account:
    """Add an account."""
    added = await accounts.add_account(
        conn, kind, public_id, name, parent=parent, segtax=segtax, now_s=by.now_s
    )
    detail = {
        "kind": kind.value,
        "name": name,
        "parent": None if parent is None else parent.public_id,
        "segtax": segtax,
    }
    await note(conn, by, "account add", public_id, scope=added, detail=detail)
    return added


async def set_account_active(
    conn: AsyncConnection, by: By, account: Account, *, is_active: bool
) -> None:
    """Switch an account on or off."""
    if is_active == account.is_active:
        return
    await accounts.set_account_active(conn, account, is_active)
    what = "account activate" if is_active else "account deactivate"
    await note(conn, by, what, account.public_id, scope=account)


async def relate(conn: AsyncConnection, by: By, publisher: Account, partner: Account) -> None:
    """Extend a publisher's opt-outs to a partner's segments."""
    if (publisher.id, partner.id) in await accounts.relations(conn):
        return
    await accounts.relate(conn, publisher, partner)
    detail = {"publisher": publisher.public_id}
    await note(conn, by, "account relate", partner.public_id, scope=partner, detail=detail)


async def unrelate(conn: AsyncConnection, by: By, publisher: Account, partner: Account) -> None:
    """Stop a publisher's opt-outs from reaching a partner's segments."""
    await accounts.unrelate(conn, publisher, partner)
    detail = {"publisher": publisher.public_id}
    await note(conn, by, "account unrelate", partner.public_id, scope=partner, detail=detail)
