import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import recipients as acts
from segments.cli.ledger_access import by_command, change, forbid, look
from segments.cli.recipient_tokens import token
from segments.cli.table import json_option, print_table
from segments.ledger import accounts, recipients
from segments.model.account import Account
from segments.runtime import client_certificates


@click.group()
def recipient() -> None:
    """Manage recipients: the bidders we serve, and the partners granted to each."""


recipient.add_command(token)


@recipient.command("add")
@click.argument("name")
@click.option("--partner", "partner_ids", multiple=True, help="Partner to grant to it; repeatable.")
@click.option(
    "--hold-out", type=float, default=0.0, help="Fraction of persons to leave unenriched."
)
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
@json_option
def list_recipients() -> None:
    """List all recipients."""

    async def ask(conn: AsyncConnection) -> tuple[list[Account], list[recipients.Recipient]]:
        return await accounts.accounts(conn), await recipients.recipients(conn)

    every_account, found = look(ask)
    id_to_public_id = {account.id: account.public_id for account in every_account}
    print_table(
        ("name", "hold-out", "state", "partners", "token", "certificate"),
        (
            (
                recipient.name,
                f"{recipient.hold_out:g}",
                _on_or_off(recipient.is_active),
                ",".join(id_to_public_id[number] for number in recipient.partner_ids) or None,
                "needed" if recipient.needs_token else None,
                ",".join(recipient.certificates or ()) or None,
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
    """Stop showing the segments of partners to a recipient."""

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
    """Set the fraction of persons left unenriched for a recipient, to measure against."""

    async def set_it(conn: AsyncConnection) -> str:
        found = await recipients.recipient(conn, name)
        await acts.set_hold_out(conn, by_command(), found, fraction)
        return f"recipient {name} has a hold-out of {fraction:g}"

    forbid(set_it)


@recipient.command("certificate")
@click.argument("name")
@click.option("--san", "sans", multiple=True, help="dns:NAME, uri:NAME or email:NAME; repeatable.")
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    help="CN=bidder,O=Example, as openssl's -nameopt RFC2253 writes it; repeatable.",
)
@click.option("--none", "is_none", is_flag=True, help="Serve clients without a certificate again.")
def certificate(name: str, sans: tuple[str, ...], subjects: tuple[str, ...], is_none: bool) -> None:
    """
    Serve a recipient only to clients whose certificate has one of these names.

    An authority of RTB_TLS_CLIENT_CA must have signed it. The names replace all earlier names.
    """
    if is_none == bool(sans or subjects):
        raise click.UsageError("the names of a certificate, --san or --subject; or --none")
    try:
        names = (*map(client_certificates.san, sans), *map(client_certificates.subject, subjects))
    except client_certificates.BadName as bad:
        raise click.UsageError(str(bad)) from None

    async def bind(conn: AsyncConnection) -> str:
        found = await recipients.recipient(conn, name)
        await acts.set_certificates(conn, by_command(), found, None if is_none else names)
        if is_none:
            return f"recipient {name} needs no certificate"
        return f"recipient {name} needs a certificate of {' or '.join(sorted(set(names)))}"

    (change if is_none else forbid)(bind)


@recipient.command("activate")
@click.argument("name")
def activate(name: str) -> None:
    """Serve a recipient again."""
    _set_active(name, is_active=True)


@recipient.command("deactivate")
@click.argument("name")
def deactivate(name: str) -> None:
    """Stop serving a recipient; its URL answers 404."""
    _set_active(name, is_active=False)


def _set_active(name: str, *, is_active: bool) -> None:
    async def switch(conn: AsyncConnection) -> str:
        found = await recipients.recipient(conn, name)
        await acts.set_recipient_active(conn, by_command(), found, is_active=is_active)
        return f"recipient {name} is {_on_or_off(is_active)}"

    (change if is_active else forbid)(switch)


def _on_or_off(is_active: bool) -> str:
    return "active" if is_active else "deactivated"
