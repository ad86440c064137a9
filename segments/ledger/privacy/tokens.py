"""
Queries of the Privacy API's bearer tokens.

A token is shown once and stored as its SHA-256: random, it needs no slow hash. A revoked token
keeps its row, to which requests and the audit trail refer.
"""

import hashlib
import secrets
from typing import Any, NamedTuple

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import last_used
from segments.ledger.checked_text import checked_text
from segments.ledger.tables import privacy_tokens as _tokens
from segments.model.account import Account
from segments.model.refusal import NotFound, Refusal

PREFIX = "rtbp_"
"""By which people and secret scanners know a token."""

DEFAULT_DAYS = 365
MAX_DAYS = 3650
"""How long a token is valid, unless said, and at most."""

_TOKEN_BYTES = 32
_MAX_NOTE_CHARS = 128


class PrivacyToken(NamedTuple):
    """A row of the table."""

    id: int
    account_id: int | None  # `None`: global
    is_internal: bool
    note: str
    created_at_s: int
    expires_at_s: int
    revoked_at_s: int | None
    used_at_s: int | None  # `segments.ledger.last_used`

    def is_good(self, now_s: float) -> bool:
        """Tell whether the token is valid."""
        return self.revoked_at_s is None and now_s < self.expires_at_s


_COLUMNS = tuple(_tokens.c[name] for name in PrivacyToken._fields)


async def create(
    conn: AsyncConnection,
    account: Account | None,
    *,
    is_internal: bool,
    note: str,
    now_s: float,
    expires_at_s: float,
) -> tuple[PrivacyToken, str]:
    """
    Create a token that acts for an account; for all accounts if `None`.

    An internal token may ask for reports and search. The note names the holder, for people.

    Returns:
        The row, and the token, which is never shown again.

    Raises:
        Refusal: The note can't be stored and printed.
    """
    checked_text("note", note, max_chars=_MAX_NOTE_CHARS)
    token = PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    row = {
        "token_sha256": _sha256(token),
        "account_id": None if account is None else account.id,
        "is_internal": is_internal,
        "note": note,
        "created_at_s": int(now_s),
        "expires_at_s": int(expires_at_s),
    }
    inserted = await conn.execute(insert(_tokens).values(row).returning(*_COLUMNS))
    return _token(inserted.one()), token


async def find(conn: AsyncConnection, token: str) -> PrivacyToken | None:
    """Return a token's row, valid or not."""
    asked = select(*_COLUMNS).where(_tokens.c.token_sha256 == _sha256(token))
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else _token(row)


async def note_use(ledger: AsyncEngine, token: PrivacyToken, *, now_s: float) -> None:
    """Record that a token was used, if that is due."""
    is_row = _tokens.c.id == token.id
    await last_used.note_use(ledger, _tokens, is_row, token.used_at_s, now_s=now_s)


async def tokens(conn: AsyncConnection) -> list[PrivacyToken]:
    """Return all tokens, oldest first."""
    return [_token(row) for row in await conn.execute(select(*_COLUMNS).order_by(_tokens.c.id))]


async def revoke(conn: AsyncConnection, token_id: int, *, now_s: float) -> PrivacyToken:
    """
    Revoke a token.

    Raises:
        NotFound: No such token.
        Refusal: The token is revoked already.
    """
    asked = select(*_COLUMNS).where(_tokens.c.id == token_id)
    row = (await conn.execute(asked)).one_or_none()
    if row is None:
        raise NotFound(f"there is no token {token_id}")
    if row.revoked_at_s is not None:
        raise Refusal(f"token {token_id} is revoked already")
    await conn.execute(
        update(_tokens).where(_tokens.c.id == token_id).values(revoked_at_s=int(now_s))
    )
    return _token(row)


def _token(row: Row[Any]) -> PrivacyToken:
    return PrivacyToken(**row._asdict())


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
