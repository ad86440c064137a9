"""Acts on orgs' credentials for external audiences, and on base connections."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.files.base_connection import BaseConnection
from segments.ledger import accounts
from segments.ledger.external_audience import base_connections, orgs
from segments.ledger.external_audience.orgs import NewCredential, Sandbox
from segments.model.account import Account


async def add_org(
    conn: AsyncConnection, by: By, ims_org_id: str, sandbox: str, account: Account, user_id: str
) -> NewCredential:
    """Issue a credential for the external audiences of an org's sandbox."""
    found = await orgs.find_or_add_sandbox(conn, ims_org_id, sandbox, account, now_s=by.now_s)
    made = await orgs.add_credential(conn, found, user_id, now_s=by.now_s)
    detail = {"sandbox": sandbox, "api_key": made.api_key, "user": user_id}
    await note(conn, by, "org add", ims_org_id, scope=account, detail=detail)
    return made


async def revoke_credential(conn: AsyncConnection, by: By, api_key: str) -> None:
    """Revoke the access token of an API key."""
    every = {each.api_key: each for each in await orgs.credentials(conn)}
    await orgs.revoke(conn, api_key)
    sandbox = every[api_key].sandbox
    account = await accounts.account(conn, sandbox.account_id)
    detail = {"sandbox": sandbox.name, "api_key": api_key}
    await note(conn, by, "org revoke", sandbox.ims_org_id, scope=account, detail=detail)


async def add_connection(
    conn: AsyncConnection,
    by: By,
    sandbox: Sandbox,
    name: str,
    url: str,
    options: Mapping[str, str],
) -> BaseConnection:
    """Register a directory or a bucket that an org's runs may read."""
    added = await base_connections.add_connection(conn, sandbox, name, url, options, now_s=by.now_s)
    await _note_connection(conn, by, "connection add", added, sandbox)
    return added


async def remove_connection(conn: AsyncConnection, by: By, public_id: str) -> None:
    """Remove a base connection."""
    found = {each.public_id: each for each in await base_connections.connections(conn)}
    await base_connections.remove_connection(conn, public_id)
    removed = found[public_id]
    sandbox = await orgs.sandbox_by_id(conn, removed.sandbox_id)
    await _note_connection(conn, by, "connection remove", removed, sandbox)


async def _note_connection(
    conn: AsyncConnection, by: By, what: str, connection: BaseConnection, sandbox: Sandbox
) -> None:
    account = await accounts.account(conn, sandbox.account_id)
    detail = {"name": connection.name, "org": sandbox.ims_org_id, "sandbox": sandbox.name}
    await note(conn, by, what, connection.public_id, scope=account, detail=detail)
