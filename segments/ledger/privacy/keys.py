"""
Queries of the keys of the Privacy API's legacy doors, and of spent JWTs.

A JWT names a key by domain and `kid`. `segments.doors.privacy.jwt` checks that it is a strong RSA
key.
"""

from typing import Any, NamedTuple

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import last_used
from segments.ledger.checked_text import checked_text
from segments.ledger.tables import privacy_jwts as _jwts
from segments.ledger.tables import privacy_keys as _keys
from segments.model.account import Account
from segments.model.refusal import Duplicate, NotFound

_MAX_DOMAIN_CHARS = 253
_MAX_KID_CHARS = 128


class PrivacyKey(NamedTuple):
    """A row of the table."""

    id: int
    domain: str
    kid: str
    public_key: str
    account_id: int | None  # `None`: global
    is_internal: bool
    created_at_s: int
    revoked_at_s: int | None
    used_at_s: int | None  # `segments.ledger.last_used`


_COLUMNS = tuple(_keys.c[name] for name in PrivacyKey._fields)


async def add_key(
    conn: AsyncConnection,
    domain: str,
    kid: str,
    public_key: str,
    account: Account | None,
    *,
    is_internal: bool,
    now_s: float,
) -> PrivacyKey:
    """
    Add a domain's key for signed requests.

    Raises:
        Duplicate: The domain has a key with this `kid`.
        Refusal: Domain or `kid` can't be stored and printed.
    """
    checked_text("domain", domain, max_chars=_MAX_DOMAIN_CHARS)
    checked_text("kid", kid, max_chars=_MAX_KID_CHARS)
    row = {
        "domain": domain.lower(),
        "kid": kid,
        "public_key": public_key,
        "account_id": None if account is None else account.id,
        "is_internal": is_internal,
        "created_at_s": int(now_s),
    }
    try:
        async with conn.begin_nested():
            inserted = await conn.execute(insert(_keys).values(row).returning(*_COLUMNS))
            return _key(inserted.one())
    except IntegrityError:
        raise Duplicate(f"{domain} has a key {kid} already; remove that first") from None


async def remove_key(conn: AsyncConnection, domain: str, kid: str, *, now_s: float) -> PrivacyKey:
    """
    Revoke a key.

    Raises:
        NotFound: The domain has no key with this `kid`.
    """
    found = await find(conn, domain, kid)
    if found is None:
        raise NotFound(f"{domain} has no key {kid}")
    await conn.execute(update(_keys).where(_keys.c.id == found.id).values(revoked_at_s=int(now_s)))
    return found


async def find(conn: AsyncConnection, domain: str, kid: str) -> PrivacyKey | None:
    """Return a key by domain, in any case, and `kid`, unless it is revoked."""
    asked = select(*_COLUMNS).where(
        _keys.c.domain == domain.lower(), _keys.c.kid == kid, _keys.c.revoked_at_s.is_(None)
    )
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else _key(row)


async def note_use(ledger: AsyncEngine, key: PrivacyKey, *, now_s: float) -> None:
    """Record that a key has signed a request, if that is due."""
    is_row = _keys.c.id == key.id
    await last_used.note_use(ledger, _keys, is_row, key.used_at_s, now_s=now_s)


async def keys(conn: AsyncConnection) -> list[PrivacyKey]:
    """Return the valid keys, oldest first."""
    asked = select(*_COLUMNS).where(_keys.c.revoked_at_s.is_(None)).order_by(_keys.c.id)
    return [_key(row) for row in await conn.execute(asked)]


async def spend(
    conn: AsyncConnection, key: PrivacyKey, digest: bytes, *, now_s: float, expires_at_s: int
) -> bool:
    """
    Record a signed request by its digest as spent; forget expired requests.

    In the request's transaction. From `expires_at_s` on the request is rejected anyway.

    Returns:
        `False` if the request was spent before.
    """
    await conn.execute(delete(_jwts).where(_jwts.c.expires_at_s <= int(now_s)))
    row = {"key_id": key.id, "digest": digest, "expires_at_s": expires_at_s}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(_jwts).values(row))
    except IntegrityError:
        return False
    return True


def _key(row: Row[Any]) -> PrivacyKey:
    return PrivacyKey(**row._asdict())
