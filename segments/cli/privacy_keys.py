"""`key add|list|remove --jwt`: keys of the Privacy API's JWTs."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import privacy as acts
from segments.cli.ledger_access import by_command, look
from segments.cli.table import print_table
from segments.cli.tokens import category, named_account
from segments.doors.privacy.jwt import read_public_key
from segments.ledger import accounts
from segments.ledger.privacy import keys as privacy_keys
from segments.ledger.privacy.keys import PrivacyKey
from segments.model.account import Account

_Change = Callable[[AsyncConnection], Awaitable[str]]


def adding(
    domain: str, kid: str, content: bytes, account_id: str | None, *, is_internal: bool
) -> _Change:
    """Return the change that accepts requests which a domain signs with a key."""

    async def add(conn: AsyncConnection) -> str:
        account = await named_account(conn, account_id)
        public_key = read_public_key(content)
        added = await acts.add_key(
            conn, by_command(), domain, kid, public_key, account, is_internal=is_internal
        )
        return f"{added.domain} may sign requests with its key {kid}: {category(account)}"

    return add


def removing(domain: str, kid: str) -> _Change:
    """Return the change that stops accepting requests which a domain signs with a key."""

    async def remove(conn: AsyncConnection) -> str:
        removed = await acts.remove_key(conn, by_command(), domain, kid)
        return f"{removed.domain} may not sign requests with its key {kid} any longer"

    return remove


def print_all() -> None:
    """Print all valid keys."""

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
