"""The commands of the REST doors: `api`, and `user` for their logins."""

import sys
import warnings
from getpass import GetPassWarning

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import logins
from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import by_command, change, look, run
from segments.cli.table import json_option, print_table
from segments.doors.rest.passwords import Passwords
from segments.ledger import accounts, users
from segments.processes.rest_api import run as run_api
from segments.runtime.stopping import stopping_event
from segments.settings import Settings

from_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from a line of standard input."
)


@click.command()
def api() -> None:
    """Serve the REST doors: logins, audiences, uploads, data subject requests."""
    settings = control_settings()
    run(_serve(settings), listens=True)


@click.group()
def user() -> None:
    """Manage logins to the REST doors, and the partner of each."""


@user.command("add")
@click.argument("username")
@click.option("--partner", "partner_id", required=True, help="The partner that the user acts for.")
@click.option("--sub-id", help="Id of an agency's sub account; default: all of them.")
@click.option(
    "--admin",
    "is_admin",
    is_flag=True,
    help="May manage the account's keys and logins in the console.",
)
@from_stdin
def add_user(
    username: str, partner_id: str, sub_id: str | None, is_admin: bool, password_stdin: bool
) -> None:
    """Add a user who can log in as USERNAME."""
    password = password_from(password_stdin)

    async def add(conn: AsyncConnection) -> str:
        account = await accounts.partner(conn, partner_id, sub_id)
        password_hash = await Passwords().hash(password)
        added = await logins.add_user(
            conn, by_command(), username, account, password_hash, is_admin=is_admin
        )
        return f"added user {added.username}, {added.public_id}"

    change(add)


@user.command("list")
@json_option
def list_users() -> None:
    """List all users."""

    async def ask(conn: AsyncConnection) -> list[tuple[users.User, str]]:
        return [
            (user, (await accounts.account(conn, user.account_id)).public_id)
            for user in await users.users(conn)
        ]

    print_table(
        ("user", "id", "account", "state"),
        (
            (user.username, user.public_id, account, "active" if user.is_active else "revoked")
            for user, account in look(ask)
        ),
    )


@user.command("password")
@click.argument("username")
@from_stdin
def set_password(username: str, password_stdin: bool) -> None:
    """Change the password of USERNAME, and end the user's open sessions."""
    password = password_from(password_stdin)

    async def change_password(conn: AsyncConnection) -> str:
        found = await users.user(conn, username)
        password_hash = await Passwords().hash(password)
        await logins.set_password(conn, by_command(), found, password_hash)
        return f"user {found.username} has another password"

    change(change_password)


@user.command("admin")
@click.argument("username")
@click.option("--off", is_flag=True, help="Not any longer.")
def admin(username: str, off: bool) -> None:
    """Let USERNAME manage the account's keys and logins in the console."""

    async def set_admin(conn: AsyncConnection) -> str:
        found = await users.user(conn, username)
        await logins.set_admin(conn, by_command(), found, is_admin=not off)
        may = "may not" if off else "may"
        return f"user {found.username} {may} manage keys and logins"

    change(set_admin)


@user.command("revoke")
@click.argument("username")
def revoke(username: str) -> None:
    """Revoke the access of USERNAME at once; `user password` restores it."""

    async def revoke_user(conn: AsyncConnection) -> str:
        found = await users.user(conn, username)
        await logins.revoke_user(conn, by_command(), found)
        return f"user {found.username} is revoked"

    change(revoke_user)


async def _serve(settings: Settings) -> None:
    await run_api(settings, stopping_event())


def password_from(is_on_stdin: bool) -> str:
    """
    Return a password from standard input, or as typed twice on a terminal.

    Raises:
        click.UsageError: Nothing was typed, and standard input is no terminal.
    """
    if is_on_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    try:
        with warnings.catch_warnings():
            # Else what is typed would be seen, after three lines of Python's own.
            warnings.simplefilter("error", GetPassWarning)
            answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    except (click.Abort, GetPassWarning):
        if sys.stdin.isatty():
            raise
        raise click.UsageError(
            "there is no terminal to type a password: give it with --password-stdin, as a line of"
            " standard input"
        ) from None
    return answer
