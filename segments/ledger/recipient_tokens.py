"""
Queries of recipients' bearer tokens, which authenticate bids beyond the name in the path.

A token is shown once and stored as its SHA-256, which the catalog carries to the bid listener. Two
can be valid at once, so that a bidder switches without losing an answer. If all are revoked, bids
are refused until the requirement is waived.
"""

import hashlib
import secrets
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.recipients import Recipient
from segments.ledger.revision import raise_revision
from segments.ledger.tables import recipient_tokens as _tokens
from segments.ledger.tables import recipients as _recipients
from segments.model.refusal import NotFound, Refusal

PREFIX: Final = "rtbr_"
"""By which people and secret scanners know a token."""

MAX_GOOD: Final = 2

_TOKEN_BYTES: Final = 32


class RecipientToken(NamedTuple):
    """A row of the table."""

    id: int
    recipient_id: int
    created_at_s: int
    revoked_at_s: int | None


_COLUMNS: Final = tuple(_tokens.c[name] for name in RecipientToken._fields)


async def issue(
    conn: AsyncConnection, recipient: Recipient, *, is_needed: bool, now_s: float
) -> tuple[RecipientToken, str]:
    """
    Issue a token for a recipient; with `is_needed`, require a token from now on.

    Returns:
        The row, and the token, which is never shown again.

    Raises:
        Refusal: Two tokens are valid already.
    """
    await raise_revision(conn)
    good = await _good(conn, recipient)
    if len(good) >= MAX_GOOD:
        raise Refusal(
            f"recipient {recipient.name} has {MAX_GOOD} good tokens already; revoke one"
            f" ({', '.join(str(each.id) for each in good)}), or rotate"
        )
    if is_needed:
        await _set_needs(conn, recipient, needs_token=True)
    return await _draw(conn, recipient, now_s)


async def rotate(
    conn: AsyncConnection, recipient: Recipient, *, now_s: float
) -> tuple[RecipientToken, str]:
    """Issue a token, as `issue`; of the older tokens only the newest stays valid."""
    await raise_revision(conn)
    older = (await _good(conn, recipient))[:-1]
    await _revoke(conn, [each.id for each in older], now_s)
    return await _draw(conn, recipient, now_s)


async def revoke(conn: AsyncConnection, recipient: Recipient, number: int, *, now_s: float) -> bool:
    """
    Revoke a token.

    Returns:
        Whether it was valid until now.

    Raises:
        NotFound: The recipient has no such token.
    """
    if number not in {each.id for each in await tokens(conn, recipient)}:
        raise NotFound(f"recipient {recipient.name} has no token {number}")
    if number not in {each.id for each in await _good(conn, recipient)}:
        return False
    await raise_revision(conn)
    await _revoke(conn, [number], now_s)
    return True


async def waive(conn: AsyncConnection, recipient: Recipient, *, now_s: float) -> None:
    """Stop requiring a token of a recipient, and revoke its tokens."""
    await raise_revision(conn)
    await _revoke(conn, [each.id for each in await _good(conn, recipient)], now_s)
    await _set_needs(conn, recipient, needs_token=False)


async def need(conn: AsyncConnection, recipient: Recipient) -> None:
    """Require a token for a recipient's bids, even if it has none."""
    await raise_revision(conn)
    await _set_needs(conn, recipient, needs_token=True)


async def tokens(conn: AsyncConnection, recipient: Recipient) -> list[RecipientToken]:
    """Return all tokens of a recipient, oldest first."""
    asked = select(*_COLUMNS).where(_tokens.c.recipient_id == recipient.id).order_by(_tokens.c.id)
    return [_token(row) for row in await conn.execute(asked)]


async def good_digests(conn: AsyncConnection) -> Mapping[int, Mapping[str, int]]:
    """Return recipients' valid tokens: SHA-256 in hex to number."""
    asked = (
        select(_tokens.c.recipient_id, _tokens.c.token_sha256, _tokens.c.id)
        .where(_tokens.c.revoked_at_s.is_(None))
        .order_by(_tokens.c.id)
    )
    recipient_to_digests: dict[int, dict[str, int]] = {}
    for recipient_id, digest, number in await conn.execute(asked):
        recipient_to_digests.setdefault(recipient_id, {})[digest.hex()] = number
    return recipient_to_digests


async def _good(conn: AsyncConnection, recipient: Recipient) -> list[RecipientToken]:
    return [each for each in await tokens(conn, recipient) if each.revoked_at_s is None]


async def _draw(
    conn: AsyncConnection, recipient: Recipient, now_s: float
) -> tuple[RecipientToken, str]:
    token = PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    row = {
        "recipient_id": recipient.id,
        "token_sha256": hashlib.sha256(token.encode()).digest(),
        "created_at_s": int(now_s),
    }
    inserted = await conn.execute(insert(_tokens).values(row).returning(*_COLUMNS))
    return _token(inserted.one()), token


async def _revoke(conn: AsyncConnection, numbers: Collection[int], now_s: float) -> None:
    await conn.execute(
        update(_tokens)
        .where(_tokens.c.id.in_(numbers), _tokens.c.revoked_at_s.is_(None))
        .values(revoked_at_s=int(now_s))
    )


async def _set_needs(conn: AsyncConnection, recipient: Recipient, *, needs_token: bool) -> None:
    await conn.execute(
        update(_recipients).where(_recipients.c.id == recipient.id).values(needs_token=needs_token)
    )


def _token(row: Row[Any]) -> RecipientToken:
    return RecipientToken(**row._asdict())
