"""What `key add|list|remove --jwt` do: keys of the Privacy API's JWTs."""

import time
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.cli.ledger_access import look, print_table
from segments.cli.tokens import category, named_account
from segments.doors.privacy.jwt import read_public_key
from segments.ledger import accounts
from segments.ledger.privacy import audit
from segments.ledger.privacy import keys as privacy_keys
from segments.ledger.privacy.audit import COMMAND_LINE, Entry
from segments.ledger.privacy.keys import PrivacyKey
from segments.model.account import Account

_Change = Callable[[AsyncConnection], Awaitable[str]]


def adding(
    domain: str, kid: str, content: bytes, account_id: str | None, *, is_internal: bool
) -> _Change:
    """Return what takes requests that a domain signs with a key from now on."""
    now_s = time.time()

    async def add(conn: AsyncConnection) -> str:
        account = await named_account(conn, account_id)
        public_key = read_public_key(content)
        added = await privacy_keys.add_key(
            conn, domain, kid, public_key, account, is_internal=is_internal, now_s=now_s
        )
        await _note(conn, "key add", added, now_s)
        return f"{added.domain} may sign requests with its key {kid}: {category(account)}"

    return add


def removing(domain: str, kid: str) -> _Change:
    """Return what takes nothing any more that a domain signs with a key."""
    now_s = time.time()

    async def remove(conn: AsyncConnection) -> str:
        removed = await privacy_keys.remove_key(conn, domain, kid, now_s=now_s)
        await _note(conn, "key remove", removed, now_s)
        return f"{removed.domain} may not sign requests with its key {kid} any longer"

    return remove


def print_all() -> None:
    """Print the keys that are good."""

    async def ask(conn: AsyncConnection) -> tuple[list[Account], list[PrivacyKey]]:
        return await accounts.accounts(conn), await privacy_keys.keys(conn)

    every_account, found = look(ask)
    id_to_account = {account.id: account for account in every_account}
    print_table(
        ("domain", "kid", "category", "account", "internal"),
        (
            (
                key.domain,
                key.kid,
                category(account := id_to_account.get(key.account_id or 0)),
                None if account is None else account.public_id,
                "internal" if key.is_internal else None,
            )
            for key in found
        ),
    )


async def _note(conn: AsyncConnection, what: str, key: PrivacyKey, now_s: float) -> None:
    entry = Entry(what, scope_id=key.account_id)
    await audit.add(
        conn, COMMAND_LINE._replace(name=f"{key.domain}/{key.kid}"), [entry], now_s=now_s
    )
