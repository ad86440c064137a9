import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import staff as acts
from segments.cli.api import from_stdin, password_from
from segments.cli.ledger_access import by_command, keep, look
from segments.cli.table import json_option, print_table
from segments.console import totp
from segments.doors.rest.passwords import Passwords
from segments.ledger import accounts
from segments.ledger import staff as members
from segments.ledger.staff import Staff
from segments.model.role import STAFF_ROLES, Role


@click.group()
def staff() -> None:
    """Manage the console's staff: operators and privacy desks."""


@staff.command("add")
@click.argument("username")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in STAFF_ROLES]),
    multiple=True,
    required=True,
    help="May be given twice.",
)
@click.option("--partner", "partner_id", help="Of a privacy desk: acts for this partner alone.")
@click.option(
    "--show-code",
    is_flag=True,
    help="Make the second factor now, and print its URI: for staff who can't scan it at the login.",
)
@from_stdin
def add(
    username: str,
    roles: tuple[str, ...],
    partner_id: str | None,
    show_code: bool,
    password_stdin: bool,
) -> None:
    """
    Add staff who can log in to the console as USERNAME.

    The first login shows the second factor to enrol.
    """
    password = password_from(password_stdin)

    async def add_member(conn: AsyncConnection) -> str:
        account = None if partner_id is None else await accounts.partner(conn, partner_id)
        password_hash = await Passwords().hash(password)
        wanted = [Role(role) for role in dict.fromkeys(roles)]
        secret = totp.new_secret() if show_code else None
        added = await acts.add_staff(
            conn, by_command(), username, wanted, password_hash, account, secret
        )
        said = f"added staff {added.username}: {', '.join(sorted(added.roles))}"
        return said if secret is None else f"{said}\n{totp.uri(secret, added.username)}"

    keep(add_member)


@staff.command("list")
@json_option
def list_staff() -> None:
    """List all staff."""

    async def ask(conn: AsyncConnection) -> list[tuple[Staff, str | None]]:
        listed = []
        for member in await members.all_staff(conn):
            at = member.account_id
            account = None if at is None else (await accounts.account(conn, at)).public_id
            listed.append((member, account))
        return listed

    print_table(
        ("staff", "roles", "account", "second factor", "state"),
        (
            (
                member.username,
                " ".join(sorted(member.roles)),
                account,
                "enrolled" if member.is_enrolled else "at the next login",
                "active" if member.is_active else "revoked",
            )
            for member, account in look(ask)
        ),
    )


@staff.command("password")
@click.argument("username")
@click.option(
    "--new-code",
    is_flag=True,
    help="Also forget the second factor, as after a lost phone; the next login shows another.",
)
@from_stdin
def set_password(username: str, new_code: bool, password_stdin: bool) -> None:
    """Change the password of USERNAME, and end the open sessions."""
    password = password_from(password_stdin)

    async def change_password(conn: AsyncConnection) -> str:
        found = await members.staff(conn, username)
        password_hash = await Passwords().hash(password)
        await acts.set_password(conn, by_command(), found, password_hash, forgets_code=new_code)
        return f"staff {found.username} has another password"

    keep(change_password)


@staff.command("revoke")
@click.argument("username")
def revoke(username: str) -> None:
    """Revoke the access of USERNAME at once; `staff password` restores it."""

    async def revoke_staff(conn: AsyncConnection) -> str:
        found = await members.staff(conn, username)
        await acts.revoke_staff(conn, by_command(), found)
        return f"staff {found.username} is revoked"

    keep(revoke_staff)
