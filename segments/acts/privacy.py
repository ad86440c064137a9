"""
Acts on credentials of the Privacy API (tokens, JWT keys), and looks at persons' requests.

A request itself is recorded by `segments.ledger.privacy.opt_outs.record` and, of ACCESS,
`segments.doors.privacy.submission`.
"""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger import accounts
from segments.ledger.privacy import audit, keys, tokens
from segments.ledger.privacy.audit import Entry
from segments.ledger.privacy.keys import PrivacyKey
from segments.ledger.privacy.tokens import PrivacyToken
from segments.model.account import Account
from segments.model.identity import Id


async def create_token(
    conn: AsyncConnection,
    by: By,
    account: Account | None,
    *,
    is_internal: bool,
    text: str,
    expires_at_s: float,
) -> tuple[PrivacyToken, str]:
    """Create a token; return its row and its secret, which the trail never holds."""
    created, secret = await tokens.create(
        conn,
        account,
        is_internal=is_internal,
        note=text,
        now_s=by.now_s,
        expires_at_s=expires_at_s,
    )
    detail = {"internal": is_internal}
    await note(conn, by, "token create", f"token {created.id}", scope=account, detail=detail)
    return created, secret


async def revoke_token(conn: AsyncConnection, by: By, number: int) -> PrivacyToken:
    """Revoke a token."""
    revoked = await tokens.revoke(conn, number, now_s=by.now_s)
    scope = await _account(conn, revoked.account_id)
    await note(conn, by, "token revoke", f"token {number}", scope=scope)
    return revoked


async def add_key(
    conn: AsyncConnection,
    by: By,
    domain: str,
    kid: str,
    public_key: str,
    account: Account | None,
    *,
    is_internal: bool,
) -> PrivacyKey:
    """Accept requests that a domain signs with a key."""
    added = await keys.add_key(
        conn, domain, kid, public_key, account, is_internal=is_internal, now_s=by.now_s
    )
    detail = {"internal": is_internal}
    await note(conn, by, "key add", f"{added.domain}/{kid}", scope=account, detail=detail)
    return added


async def remove_key(conn: AsyncConnection, by: By, domain: str, kid: str) -> PrivacyKey:
    """Stop accepting requests that a domain signs with a key."""
    removed = await keys.remove_key(conn, domain, kid, now_s=by.now_s)
    scope = await _account(conn, removed.account_id)
    await note(conn, by, "key remove", f"{removed.domain}/{kid}", scope=scope)
    return removed


async def search(
    conn: AsyncConnection, by: By, ids: Collection[Id], account: Account | None
) -> None:
    """Record a search for a person's requests; `account` bounds it, `None` is global."""
    entry = Entry("search", ids=ids, scope_id=None if account is None else account.id)
    await audit.add(conn, by.who, [entry], now_s=by.now_s)


async def note_read(
    conn: AsyncConnection, by: By, what: str, transaction_id: str, scope_id: int | None
) -> None:
    """Record that a request was read, or its report downloaded, by `what`."""
    entry = Entry(what, scope_id=scope_id, transaction_id=transaction_id)
    await audit.add(conn, by.who, [entry], now_s=by.now_s)


async def _account(conn: AsyncConnection, account_id: int | None) -> Account | None:
    return None if account_id is None else await accounts.account(conn, account_id)
