"""The command `token`: bearer tokens of the Privacy API, each for an account or global."""

import time
from datetime import UTC, datetime

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import privacy as acts
from segments.cli.ledger_access import by_command, keep, look
from segments.cli.table import json_option, print_table
from segments.ledger import accounts
from segments.ledger.privacy import tokens as privacy_tokens
from segments.ledger.privacy.tokens import PrivacyToken
from segments.model.account import PARTNER_KINDS, Account, AccountKind
from segments.model.day import S_PER_DAY

account_option = click.option(
    "--account",
    "account_id",
    help="Account that it acts for: ID, KIND:ID, or PARTNER/ID of a sub account. By default it is"
    " global, like agents that act for consumers across the industry.",
)
internal_option = click.option(
    "--internal",
    "is_internal",
    is_flag=True,
    help="Also allow access requests (ACCESS) and searches.",
)


def category(account: Account | None) -> str:
    """Return the category of an account's agents in the Privacy API's document."""
    if account is None:
        return "Global"
    if account.kind in PARTNER_KINDS:
        return "Advertiser"
    return "Publisher" if account.kind is AccountKind.PUBLISHER else "Media Group"


async def named_account(conn: AsyncConnection, account_id: str | None) -> Account | None:
    """Return the account that `account_option` names; `None` is global."""
    return None if account_id is None else await accounts.named(conn, account_id)


@click.group()
def token() -> None:
    """Manage bearer tokens of the Privacy API."""


@token.command("create")
@account_option
@internal_option
@click.option(
    "--days",
    type=click.IntRange(min=1, max=privacy_tokens.MAX_DAYS),
    default=privacy_tokens.DEFAULT_DAYS,
    show_default=True,
)
@click.option("--note", default="-", help="A note for people, such as the holder.")
def create(account_id: str | None, is_internal: bool, days: int, note: str) -> None:
    """Create a token and show it once; only its SHA-256 is kept."""
    by = by_command()

    async def draw(conn: AsyncConnection) -> str:
        account = await named_account(conn, account_id)
        expires_at_s = by.now_s + days * S_PER_DAY
        created, secret = await acts.create_token(
            conn, by, account, is_internal=is_internal, text=note, expires_at_s=expires_at_s
        )
        click.echo(f"token {created.id}: {category(account)}, {days} days", err=True)
        return secret

    keep(draw)


@token.command("list")
@json_option
def list_tokens() -> None:
    """List all tokens by number; the tokens themselves are not kept."""

    async def ask(conn: AsyncConnection) -> tuple[list[Account], list[PrivacyToken]]:
        return await accounts.accounts(conn), await privacy_tokens.tokens(conn)

    every_account, found = look(ask)
    id_to_account = {account.id: account for account in every_account}
    now_s = time.time()
    print_table(
        ("token", "category", "account", "internal", "expires", "state", "note"),
        (
            (
                each.id,
                category(account := id_to_account.get(each.account_id or 0)),
                None if account is None else account.public_id,
                "internal" if each.is_internal else None,
                datetime.fromtimestamp(each.expires_at_s, UTC).date().isoformat(),
                _state(each, now_s),
                each.note,
            )
            for each in found
        ),
    )


@token.command("revoke")
@click.argument("number", type=click.IntRange(min=1))
def revoke(number: int) -> None:
    """Revoke token NUMBER at once."""

    async def revoke_token(conn: AsyncConnection) -> str:
        await acts.revoke_token(conn, by_command(), number)
        return f"token {number} is revoked"

    keep(revoke_token)


def _state(token: PrivacyToken, now_s: float) -> str:
    if token.revoked_at_s is not None:
        return "revoked"
    return "good" if token.is_good(now_s) else "expired"
