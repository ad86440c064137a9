from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import recipients as acts
from segments.acts.trail import By
from segments.cli.ledger_access import by_command, change, forbid, look
from segments.cli.table import json_option, print_table
from segments.ledger import recipient_tokens, recipients
from segments.ledger.recipient_tokens import RecipientToken
from segments.ledger.recipients import Recipient

_Act = Callable[[AsyncConnection, By, Recipient], Awaitable[None]]
_Draw = Callable[[AsyncConnection, By, Recipient], Awaitable[tuple[RecipientToken, str]]]


@click.group("token")
def token() -> None:
    """Manage bearer tokens, which a recipient's bid requests need after the first is issued."""


@token.command("issue")
@click.argument("name")
@click.option(
    "--not-needed-yet",
    "is_optional",
    is_flag=True,
    help="Also serve requests without a token until `recipient token need`.",
)
def issue(name: str, is_optional: bool) -> None:
    """Issue a token and show it once; only its SHA-256 is kept. Two can be valid at a time."""

    async def draw(conn: AsyncConnection, by: By, found: Recipient) -> tuple[RecipientToken, str]:
        return await acts.issue_token(conn, by, found, is_needed=not is_optional)

    _draw(name, draw)


@token.command("rotate")
@click.argument("name")
def rotate(name: str) -> None:
    """Issue a new token and show it once; of older tokens only the newest stays valid."""
    _draw(name, acts.rotate_token)


@token.command("revoke")
@click.argument("name")
@click.argument("number", type=click.IntRange(min=1))
def revoke(name: str, number: int) -> None:
    """Revoke token NUMBER. Where tokens are needed and none is left, every request is refused."""

    async def revoke_it(conn: AsyncConnection, by: By, found: Recipient) -> None:
        await acts.revoke_token(conn, by, found, number)

    forbid(_act(name, revoke_it, f"token {number} of recipient {name} is revoked"))


@token.command("need")
@click.argument("name")
def need(name: str) -> None:
    """Refuse a recipient's requests without a valid token."""
    forbid(_act(name, acts.need_token, f"recipient {name} needs a token"))


@token.command("waive")
@click.argument("name")
def waive(name: str) -> None:
    """Serve a recipient without a token, and revoke its tokens."""
    change(_act(name, acts.waive_token, f"recipient {name} needs no token"))


@token.command("list")
@click.argument("name")
@json_option
def list_tokens(name: str) -> None:
    """List the tokens of a recipient by number; the tokens themselves are not kept."""

    async def ask(conn: AsyncConnection) -> list[RecipientToken]:
        return await recipient_tokens.tokens(conn, await recipients.recipient(conn, name))

    print_table(
        ("token", "issued", "state"),
        (
            (
                each.id,
                datetime.fromtimestamp(each.created_at_s, UTC).date().isoformat(),
                "good" if each.revoked_at_s is None else "revoked",
            )
            for each in look(ask)
        ),
    )


def _act(name: str, act: _Act, said: str) -> Callable[[AsyncConnection], Awaitable[str]]:
    async def do(conn: AsyncConnection) -> str:
        await act(conn, by_command(), await recipients.recipient(conn, name))
        return said

    return do


def _draw(name: str, draw: _Draw) -> None:
    secrets: list[str] = []

    async def draw_one(conn: AsyncConnection) -> str:
        found = await recipients.recipient(conn, name)
        drawn, secret = await draw(conn, by_command(), found)
        secrets.append(secret)
        return f"token {drawn.id} of recipient {name}"

    forbid(draw_one, shown_once=secrets)
