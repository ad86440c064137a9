"""The commands of external audiences: `org` for clients, `connection` for places of files."""

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import orgs as acts
from segments.cli.ledger_access import by_command, change, look
from segments.cli.table import json_option, print_table
from segments.files.base_connection import BaseConnection
from segments.ledger import accounts
from segments.ledger.external_audience import base_connections, orgs
from segments.model.refusal import Refusal

_sandbox = click.option("--sandbox", default="prod", show_default=True, help="Sandbox of the org.")


@click.group()
def org() -> None:
    """Manage orgs that may request external audiences, their sandboxes and partners."""


@org.command("add")
@click.argument("ims_org_id")
@click.option(
    "--partner", "partner_id", required=True, help="The partner that will own the audiences."
)
@click.option("--sub-id", help="Id of an agency's sub account.")
@click.option(
    "--user", "user_id", default="operator", show_default=True, help="The value of createdBy."
)
@_sandbox
def add_org(
    ims_org_id: str, partner_id: str, sub_id: str | None, user_id: str, sandbox: str
) -> None:
    """Let a client request external audiences in a sandbox of IMS_ORG_ID."""

    async def add(conn: AsyncConnection) -> str:
        account = await accounts.partner(conn, partner_id, sub_id)
        made = await acts.add_org(conn, by_command(), ims_org_id, sandbox, account, user_id)
        return f"x-api-key\t{made.api_key}\ntoken\t{made.token}"

    change(add)
    click.echo("the token is not shown again", err=True)


@org.command("list")
@json_option
def list_orgs() -> None:
    """List all orgs, their sandboxes and API keys."""

    async def ask(conn: AsyncConnection) -> list[tuple[orgs.Credential, str]]:
        return [
            (each, (await accounts.account(conn, each.sandbox.account_id)).public_id)
            for each in await orgs.credentials(conn)
        ]

    print_table(
        ("org", "sandbox", "account", "x-api-key", "user", "state"),
        (
            (
                each.sandbox.ims_org_id,
                each.sandbox.name,
                account,
                each.api_key,
                each.user_id,
                "active" if each.is_active else "revoked",
            )
            for each, account in look(ask)
        ),
    )


@org.command("revoke")
@click.argument("api_key")
def revoke(api_key: str) -> None:
    """Revoke the token of an API_KEY at once."""

    async def revoke_it(conn: AsyncConnection) -> str:
        await acts.revoke_credential(conn, by_command(), api_key)
        return f"the token of {api_key} is revoked"

    change(revoke_it)


@click.group()
def connection() -> None:
    """Manage base connections: customers' directories and buckets."""


@connection.command("add")
@click.argument("name")
@click.option("--org", "ims_org_id", required=True, help="The org whose runs may read it.")
@click.option("--url", required=True, help="file:///DIRECTORY, s3://BUCKET/PREFIX, gs://, az://.")
@click.option(
    "--option", "options", multiple=True, help="Option of the bucket, NAME=VALUE; repeatable."
)
@_sandbox
def add_connection(
    name: str, ims_org_id: str, url: str, options: tuple[str, ...], sandbox: str
) -> None:
    """
    Register a directory or a bucket as NAME, and print its baseConnectionId.

    Don't put secrets on the command line: --option aws_secret_access_key=env:VARIABLE
    names an environment variable of the REST doors and the loader.
    """

    async def add(conn: AsyncConnection) -> str:
        found = await orgs.sandbox(conn, ims_org_id, sandbox)
        added = await acts.add_connection(
            conn, by_command(), found, name, url, _name_to_value(options)
        )
        return added.public_id

    change(add)


@connection.command("list")
@json_option
def list_connections() -> None:
    """List all base connections."""

    async def ask(conn: AsyncConnection) -> list[tuple[BaseConnection, orgs.Sandbox]]:
        return [
            (each, await orgs.sandbox_by_id(conn, each.sandbox_id))
            for each in await base_connections.connections(conn)
        ]

    print_table(
        ("baseConnectionId", "name", "org", "sandbox", "url"),
        ((each.public_id, each.name, of.ims_org_id, of.name, each.url) for each, of in look(ask)),
    )


@connection.command("remove")
@click.argument("base_connection_id")
def remove_connection(base_connection_id: str) -> None:
    """Remove a base connection, so that no run reads it; ingested data stays."""

    async def remove(conn: AsyncConnection) -> str:
        await acts.remove_connection(conn, by_command(), base_connection_id)
        return f"base connection {base_connection_id} is removed"

    change(remove)


def _name_to_value(options: tuple[str, ...]) -> dict[str, str]:
    name_to_value = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals):
            raise Refusal(f"--option {name} has no =VALUE")
        name_to_value[name] = value
    return name_to_value
