import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import accounts as acts
from segments.cli.ledger_access import by_command, change, forbid, look
from segments.cli.quotas import quota
from segments.cli.table import json_option, print_table
from segments.ledger import accounts
from segments.model.account import Account, AccountKind

_sub_id = click.option("--sub-id", help="Id of an agency's sub account.")


@click.group()
def account() -> None:
    """Manage partners and their sub accounts, publishers, media groups."""


account.add_command(quota)


@account.command("add")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in AccountKind]),
    required=True,
    help="Kind of the account.",
)
@click.option(
    "--id", "public_id", required=True, help="The account's partner_id, sub_id or publisher.id."
)
@click.option("--name", required=True, help="Bid requests carry the names of partners.")
@click.option(
    "--parent",
    "parent_id",
    help="The account's partner (then --id is a sub_id) or media group.",
)
@click.option(
    "--segtax", type=click.IntRange(min=1), help="Taxonomy of the account's segments, if any."
)
def add_account(
    kind: str, public_id: str, name: str, parent_id: str | None, segtax: int | None
) -> None:
    """Add an account."""

    async def add(conn: AsyncConnection) -> str:
        wanted = AccountKind(kind)
        parent = None
        if parent_id is not None:
            parent = await accounts.possible_parent(conn, wanted, parent_id)
        added = await acts.add_account(
            conn, by_command(), wanted, public_id, name, parent=parent, segtax=segtax
        )
        return f"added {wanted.value.replace('_', ' ')} {added.public_id}"

    change(add)


@account.command("list")
@json_option
def list_accounts() -> None:
    """List all accounts; `related` shows a publisher's partners or a partner's publishers."""

    async def ask(conn: AsyncConnection) -> tuple[list[Account], list[tuple[int, int]]]:
        return await accounts.accounts(conn), await accounts.relations(conn)

    found, relations = look(ask)
    id_to_public_id = {account.id: account.public_id for account in found}
    related: dict[int, list[str]] = {}
    for publisher, partner in relations:
        related.setdefault(publisher, []).append(id_to_public_id[partner])
        related.setdefault(partner, []).append(id_to_public_id[publisher])
    print_table(
        ("kind", "id", "parent", "segtax", "state", "related", "name"),
        (
            (
                account.kind.value,
                account.public_id,
                id_to_public_id.get(account.parent_id or 0),
                account.segtax,
                _on_or_off(account.is_active),
                ",".join(related.get(account.id, ())) or None,
                account.name,
            )
            for account in found
        ),
    )


@account.command("relate")
@click.argument("publisher_id")
@click.argument("partner_id")
@_sub_id
def relate(publisher_id: str, partner_id: str, sub_id: str | None) -> None:
    """Apply a publisher's opt-outs to a partner's segments."""

    async def relate_both(conn: AsyncConnection) -> str:
        publisher = await accounts.publisher(conn, publisher_id)
        partner = await accounts.partner(conn, partner_id, sub_id)
        await acts.relate(conn, by_command(), publisher, partner)
        return f"publisher {publisher_id} is related to partner {partner_id}"

    forbid(relate_both)


@account.command("unrelate")
@click.argument("publisher_id")
@click.argument("partner_id")
@_sub_id
def unrelate(publisher_id: str, partner_id: str, sub_id: str | None) -> None:
    """Stop applying a publisher's opt-outs to a partner's segments."""

    async def part(conn: AsyncConnection) -> str:
        publisher = await accounts.publisher(conn, publisher_id)
        partner = await accounts.partner(conn, partner_id, sub_id)
        await acts.unrelate(conn, by_command(), publisher, partner)
        return f"publisher {publisher_id} is not related to partner {partner_id} any longer"

    change(part)


@account.command("activate")
@click.argument("partner_id")
@_sub_id
def activate_account(partner_id: str, sub_id: str | None) -> None:
    """Show a partner's segments again."""
    _set_account(partner_id, sub_id, is_active=True)


@account.command("deactivate")
@click.argument("partner_id")
@_sub_id
def deactivate_account(partner_id: str, sub_id: str | None) -> None:
    """Hide all segments of a partner; opt-outs stay in force."""
    _set_account(partner_id, sub_id, is_active=False)


def _set_account(partner_id: str, sub_id: str | None, *, is_active: bool) -> None:
    async def switch(conn: AsyncConnection) -> str:
        found = await accounts.partner(conn, partner_id, sub_id)
        await acts.set_account_active(conn, by_command(), found, is_active=is_active)
        return f"{found.public_id} is {_on_or_off(is_active)}"

    (change if is_active else forbid)(switch)


def _on_or_off(is_active: bool) -> str:
    return "active" if is_active else "deactivated"
