"""
Queries of SSH keys: who may log in to the SFTP door, and as whom.

All take a connection, so that several make one transaction. A key is what
`ssh-keygen` printed into a `.pub` file, or a line of `authorized_keys` with its options;
what it is worth is decided by `segments.doors.sftp`, and here it is text with a fingerprint.
"""

from typing import NamedTuple

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts
from segments.ledger.tables import ssh_keys as _ssh_keys
from segments.model.account import Account
from segments.model.refusal import Duplicate, NotFound


class SshKey(NamedTuple):
    """One key of one partner."""

    account_id: int
    fingerprint: str  # SHA256:...
    public_key: str
    comment: str


_COLUMNS = tuple(_ssh_keys.c[name] for name in SshKey._fields)


async def add_key(conn: AsyncConnection, key: SshKey, *, now_s: float) -> None:
    """
    Let a partner log in with a key. One key may open the folders of several partners.

    Raises:
        Duplicate: It may already.
    """
    row = {**key._asdict(), "created_at_s": int(now_s)}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(_ssh_keys).values(row))
    except IntegrityError:
        raise Duplicate(f"the partner has the key {key.fingerprint} already") from None


async def remove_key(conn: AsyncConnection, account: Account, fingerprint: str) -> None:
    """
    Let a partner log in with a key no longer.

    Raises:
        NotFound: It could not.
    """
    removed = await conn.execute(
        delete(_ssh_keys).where(
            _ssh_keys.c.account_id == account.id, _ssh_keys.c.fingerprint == fingerprint
        )
    )
    if not removed.rowcount:
        raise NotFound(f"partner {account.public_id} has no key {fingerprint}")


async def keys(conn: AsyncConnection) -> list[SshKey]:
    """Return all keys, the oldest first."""
    rows = await conn.execute(select(*_COLUMNS).order_by(_ssh_keys.c.id))
    return [SshKey(*row) for row in rows]


async def of_partner(conn: AsyncConnection, partner_id: str) -> list[SshKey]:
    """Return the keys of the active partner of that id; none if there is no such partner."""
    partner = await accounts.find_partner(conn, partner_id)
    if partner is None or not partner.is_active:
        return []
    rows = await conn.execute(
        select(*_COLUMNS).where(_ssh_keys.c.account_id == partner.id).order_by(_ssh_keys.c.id)
    )
    return [SshKey(*row) for row in rows]


async def authorized(conn: AsyncConnection, partner_id: str, fingerprint: str) -> Account | None:
    """Return the active partner of that id if the key is one of its own."""
    partner = await accounts.find_partner(conn, partner_id)
    if partner is None or not partner.is_active:
        return None
    asked = select(_ssh_keys.c.id).where(
        _ssh_keys.c.account_id == partner.id, _ssh_keys.c.fingerprint == fingerprint
    )
    return None if (await conn.execute(asked)).first() is None else partner
