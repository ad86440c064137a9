"""
Queries of orgs' sandboxes, and of the credentials for one sandbox.

A sandbox belongs to an account, which owns its external audiences. Sandboxes are isolated, even
within an org: every query takes a sandbox's number. A token is shown once, and stored as its
SHA-256.
"""

import hashlib
import secrets
from typing import Any, NamedTuple

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import last_used
from segments.ledger.checked_text import checked_text
from segments.ledger.tables import org_credentials as _credentials
from segments.ledger.tables import org_sandboxes as _sandboxes
from segments.model.account import PARTNER_KINDS, Account
from segments.model.refusal import NotFound, Refusal

_API_KEY_BYTES = 16
_TOKEN_BYTES = 32


class Sandbox(NamedTuple):
    """A sandbox of an org."""

    id: int
    ims_org_id: str
    name: str
    account_id: int


class Credential(NamedTuple):
    """A credential for a sandbox, without its token."""

    sandbox: Sandbox
    api_key: str
    user_id: str
    is_active: bool
    used_at_s: int | None  # `segments.ledger.last_used`


class NewCredential(NamedTuple):
    """A new credential with its token, shown once."""

    api_key: str
    token: str


_COLUMNS = tuple(_sandboxes.c[name] for name in Sandbox._fields)
_OF_CREDENTIAL = (
    *_COLUMNS,
    _credentials.c.api_key,
    _credentials.c.user_id,
    _credentials.c.is_active,
    _credentials.c.used_at_s,
)


async def find_or_add_sandbox(
    conn: AsyncConnection, ims_org_id: str, name: str, account: Account, *, now_s: float
) -> Sandbox:
    """
    Return a sandbox of an org; add it if missing.

    Raises:
        Refusal: The sandbox is another account's, the account can't own audiences, or a
            text is unusable as a name.
    """
    checked_text("org id", ims_org_id, max_chars=128)
    checked_text("sandbox name", name, max_chars=64)
    if account.kind not in PARTNER_KINDS:
        raise Refusal("only partners and their sub accounts have sandboxes")
    row = {
        "ims_org_id": ims_org_id,
        "name": name,
        "account_id": account.id,
        "created_at_s": int(now_s),
    }
    try:
        async with conn.begin_nested():
            inserted = await conn.execute(insert(_sandboxes).values(row).returning(*_COLUMNS))
            return Sandbox(*inserted.one())
    except IntegrityError:
        found = await sandbox(conn, ims_org_id, name)
    if found.account_id != account.id:
        raise Refusal(f"sandbox {name} of {ims_org_id} is another account's")
    return found


async def sandbox(conn: AsyncConnection, ims_org_id: str, name: str) -> Sandbox:
    """
    Return a sandbox by its name.

    Raises:
        NotFound: No such sandbox.
    """
    asked = select(*_COLUMNS).where(
        _sandboxes.c.ims_org_id == ims_org_id, _sandboxes.c.name == name
    )
    row = (await conn.execute(asked)).one_or_none()
    if row is None:
        raise NotFound(f"there is no sandbox {name} of {ims_org_id}")
    return Sandbox(*row)


async def sandbox_by_id(conn: AsyncConnection, sandbox_id: int) -> Sandbox:
    """Return a sandbox by its number."""
    asked = select(*_COLUMNS).where(_sandboxes.c.id == sandbox_id)
    return Sandbox(*(await conn.execute(asked)).one())


async def add_credential(
    conn: AsyncConnection, sandbox: Sandbox, user_id: str, *, now_s: float
) -> NewCredential:
    """Add a credential for a sandbox; `user_id` is `createdBy` in its requests."""
    checked_text("user id", user_id, max_chars=128)
    made = NewCredential(secrets.token_hex(_API_KEY_BYTES), secrets.token_urlsafe(_TOKEN_BYTES))
    row = {
        "sandbox_id": sandbox.id,
        "api_key": made.api_key,
        "token_sha256": _digest(made.token),
        "user_id": user_id,
        "created_at_s": int(now_s),
    }
    await conn.execute(insert(_credentials).values(row))
    return made


async def credential_of(conn: AsyncConnection, token: str) -> Credential | None:
    """Return a token's credential, also if revoked."""
    asked = (
        select(*_OF_CREDENTIAL)
        .join_from(_credentials, _sandboxes)
        .where(_credentials.c.token_sha256 == _digest(token))
    )
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else _credential(row)


async def note_use(ledger: AsyncEngine, credential: Credential, *, now_s: float) -> None:
    """Record that a credential was used, if that is due."""
    is_row = _credentials.c.api_key == credential.api_key
    await last_used.note_use(ledger, _credentials, is_row, credential.used_at_s, now_s=now_s)


async def credentials(conn: AsyncConnection) -> list[Credential]:
    """Return all credentials, oldest first."""
    asked = select(*_OF_CREDENTIAL).join_from(_credentials, _sandboxes).order_by(_credentials.c.id)
    return [_credential(row) for row in await conn.execute(asked)]


async def revoke(conn: AsyncConnection, api_key: str) -> None:
    """
    Revoke a credential.

    Raises:
        NotFound: No credential has this API key.
    """
    revoked = await conn.execute(
        update(_credentials).where(_credentials.c.api_key == api_key).values(is_active=False)
    )
    if not revoked.rowcount:
        raise NotFound("there is no credential of that API key")


def _digest(token: str) -> bytes:
    # 256 random bits need no slow hash.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _credential(row: Row[Any]) -> Credential:
    *sandbox, api_key, user_id, is_active, used_at_s = tuple(row)
    return Credential(Sandbox(*sandbox), api_key, user_id, is_active, used_at_s)
