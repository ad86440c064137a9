"""
Queries of SSH keys of the SFTP door's partners.

A key is a `.pub` file of `ssh-keygen`, or a line of `authorized_keys` with its options; here, text
with a fingerprint. `segments.doors.sftp` judges its strength.
"""

from typing import NamedTuple

from sqlalchemy import and_, delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts, last_used
from segments.ledger.tables import ssh_keys as _ssh_keys
from segments.model.account import Account
from segments.model.refusal import Duplicate, NotFound


class SshKey(NamedTuple):
    """A key of a partner."""

    account_id: int
    fingerprint: str  # SHA256:...
    public_key: str
    comment: str
    used_at_s: int | None = None  # `segments.ledger.last_used`


_COLUMNS = tuple(_ssh_keys.c[name] for name in SshKey._fields)


async def add_key(conn: AsyncConnection, key: SshKey, *, now_s: float) -> None:
    """
    Add a key for a partner's logins; several partners may have it.

    Raises:
        Duplicate: The partner already has the key.
    """
    row = {**key._asdict(), "created_at_s": int(now_s)}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(_ssh_keys).values(row))
    except IntegrityError:
        raise Duplicate(f"the partner has the key {key.fingerprint} already") from None


async def remove_key(conn: AsyncConnection, account: Account, fingerprint: str) -> None:
    """
    Remove a key from a partner's logins.

    Raises:
        NotFound: The partner has no such key.
    """
    removed = await conn.execute(
        delete(_ssh_keys).where(
            _ssh_keys.c.account_id == account.id, _ssh_keys.c.fingerprint == fingerprint
        )
    )
    if not removed.rowcount:
        raise NotFound(f"partner {account.public_id} has no key {fingerprint}")


async def keys(conn: AsyncConnection) -> list[SshKey]:
    """Return all keys, oldest first."""
    rows = await conn.execute(select(*_COLUMNS).order_by(_ssh_keys.c.id))
    return [SshKey(*row) for row in rows]


async def listed(conn: AsyncConnection, partner: Account) -> list[tuple[SshKey, int]]:
    """Return a partner's keys, oldest first, each with the time of its addition."""
    asked = select(*_COLUMNS, _ssh_keys.c.created_at_s).where(_ssh_keys.c.account_id == partner.id)
    return [
        (SshKey(*row[:-1]), row[-1]) for row in await conn.execute(asked.order_by(_ssh_keys.c.id))
    ]


async def of_partner(conn: AsyncConnection, partner_id: str) -> list[SshKey]:
    """Return the keys of an active partner; empty if there is no such partner."""
    partner = await accounts.find_partner(conn, partner_id)
    if partner is None or not partner.is_active:
        return []
    rows = await conn.execute(
        select(*_COLUMNS).where(_ssh_keys.c.account_id == partner.id).order_by(_ssh_keys.c.id)
    )
    return [SshKey(*row) for row in rows]


async def authorized(conn: AsyncConnection, partner_id: str, fingerprint: str) -> Account | None:
    """Return the active partner with this id if it has this key."""
    partner = await accounts.find_partner(conn, partner_id)
    if partner is None or not partner.is_active:
        return None
    asked = select(_ssh_keys.c.id).where(
        _ssh_keys.c.account_id == partner.id, _ssh_keys.c.fingerprint == fingerprint
    )
    return None if (await conn.execute(asked)).first() is None else partner


async def note_use(ledger: AsyncEngine, key: SshKey, *, now_s: float) -> None:
    """Record that a partner has logged in with a key, if that is due."""
    is_row = and_(
        _ssh_keys.c.account_id == key.account_id, _ssh_keys.c.fingerprint == key.fingerprint
    )
    await last_used.note_use(ledger, _ssh_keys, is_row, key.used_at_s, now_s=now_s)
