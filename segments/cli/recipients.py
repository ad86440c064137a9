"""The command `recipient`: the bidders we serve, and whose segments each may see."""

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import recipients as acts
from segments.cli.ledger_access import by_command, change, forbid, look, print_table
from segments.ledger import accounts, recipients
from segments.model.account import Account


@click.group()
def recipient() -> None:
    """Recipients: the bidders we serve, and the partners granted to each."""


@recipient.command("add")
@click.argument("name")
@click.option("--partner", "partner_ids", multiple=True, help="Granted to it; repeatable.")
@click.option("--hold-out", type=float, default=0.0, help="Fraction of persons left unenriched.")
def add_recipient(name: str, partner_ids: tuple[str, ...], hold_out: float) -> None:
    """Add a recipient, served at /openrtb2/enrich/NAME."""

    async def add(conn: AsyncConnection) -> str:
        added = await acts.add_recipient(conn, by_command(), name, hold_out=hold_out)
        for partner_id in partner_ids:
            partner = await accounts.partner(conn, partner_id)
            await acts.grant(conn, by_command(), added, partner)
        return f"added recipient {name}, served at /openrtb2/enrich/{name}"

    change(add)


@recipient.command("list")
def list_recipients() -> None:
    """List all recipients."""

    async def ask(conn: AsyncConnection) -> tuple[list[Account], list[recipients.Recipient]]:
        return await accounts.accounts(conn), await recipients.recipients(conn)

    every_account, found = look(ask)
    id_to_public_id = {account.id: account.public_id for account in every_account}
    print_table(
        ("name", "hold-out", "state", "partners"),
        (
            (
                recipient.name,
                f"{recipient.hold_out:g}",
                _on_or_off(recipient.is_active),
                ",".join(id_to_public_id[number] for number in recipient.partner_ids) or None,
            )
            for recipient in found
        ),
    )


@recipient.command("grant")
@click.argument("name")
@click.argument("partner_ids", nargs=-1, required=True)
def grant(name: str, partner_ids: tuple[str, ...]) -> None:
    """Let a recipient see the segments of partners."""

    async def grant_all(conn: AsyncConnection) -> str:
        found = await recipients.recipient(conn, name)
        for partner_id in partner_ids:
            partner = await accounts.partner(conn, partner_id)
            await acts.grant(conn, by_command(), found, partner)
        return f"recipient {name} sees {', '.join(partner_ids)}"

    change(grant_all)


@recipient.command("revoke")
@click.argument("name")
@click.argument("partner_ids", nargs=-1, required=True)
def revoke(name: str, partner_ids: tuple[str, ...]) -> None:
    """Show the segments of partners to a recipient no longer."""

    async def revoke_all(conn: AsyncConnection) -> str:
        found = await recipients.recipient(conn, name)
        for partner_id in dict.fromkeys(partner_ids):
            partner = await accounts.partner(conn, partner_id)
            await acts.revoke(conn, by_command(), found, partner)
        return f"recipient {name} no longer sees {', '.join(partner_ids)}"

    forbid(revoke_all)


@recipient.command("hold-out")
@click.argument("name")
@click.argument("fraction", type=float)
def set_hold_out(name: str, fraction: float) -> None:
    """Leave a fraction of persons unenriched for a recipient, to measure against."""

    async def set_it(conn: AsyncConnection) -> str:
        found = await recipients.recipient(conn, name)
        await acts.set_hold_out(conn, by_command(), found, fraction)
        return f"recipient {name} has a hold-out of {fraction:g}"

    forbid(set_it)


@recipient.command("activate")
@click.argument("name")
def activate(name: str) -> None:
    """Serve a recipient again."""
    _set_active(name, is_active=True)


@recipient.command("deactivate")
@click.argument("name")
def deactivate(name: str) -> None:
    """Serve a recipient no longer: its URL answers 404."""
    _set_active(name, is_active=False)


def _set_active(name: str, *, is_active: bool) -> None:
    async def switch(conn: AsyncConnection) -> str:
        found = await recipients.recipient(conn, name)
        await acts.set_recipient_active(conn, by_command(), found, is_active=is_active)
        return f"recipient {name} is {_on_or_off(is_active)}"

    (change if is_active else forbid)(switch)


def _on_or_off(is_active: bool) -> str:
    return "active" if is_active else "deactivated"
