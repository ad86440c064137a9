"""
Queries of base connections: customers' directories and buckets, registered by the operator.

Only a connection's own sandbox sees it. Secrets stay in our processes' environment, as an option
`env:NAME`.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.files.base_connection import BaseConnection, checked
from segments.ledger.checked_text import checked_text
from segments.ledger.external_audience.orgs import Sandbox
from segments.ledger.tables import base_connections as _connections
from segments.model.refusal import NotFound

_COLUMNS = tuple(_connections.c[name] for name in BaseConnection.__struct_fields__)


async def add_connection(
    conn: AsyncConnection,
    sandbox: Sandbox,
    name: str,
    url: str,
    options: Mapping[str, str],
    *,
    now_s: float,
) -> BaseConnection:
    """
    Register a directory or bucket that a sandbox's runs may read.

    `url` is `file:///DIRECTORY`, or a bucket's URL for obstore; `options` are obstore's, such as
    `aws_access_key_id`, with `env:NAME` for a secret.

    Raises:
        Refusal: The URL or an option is unusable.
    """
    checked_text("name", name, max_chars=128)
    row = {
        "public_id": str(uuid.uuid4()),
        "sandbox_id": sandbox.id,
        "name": name,
        "url": checked(url, options),
        "options": dict(options),
        "created_at_s": int(now_s),
    }
    inserted = await conn.execute(insert(_connections).values(row).returning(*_COLUMNS))
    return _connection(inserted.one())


async def find_connection(
    conn: AsyncConnection, sandbox: Sandbox, public_id: str
) -> BaseConnection | None:
    """Return a sandbox's connection, unless it is removed."""
    return await _find(
        conn,
        _connections.c.public_id == public_id,
        _connections.c.sandbox_id == sandbox.id,
        _connections.c.is_active,
    )


async def connection(conn: AsyncConnection, connection_id: int) -> BaseConnection:
    """
    Return a connection by its number.

    Raises:
        NotFound: The connection is removed.
    """
    found = await _find(conn, _connections.c.id == connection_id, _connections.c.is_active)
    if found is None:
        raise NotFound("the base connection was removed")
    return found


async def connections(
    conn: AsyncConnection, sandbox: Sandbox | None = None
) -> list[BaseConnection]:
    """Return a sandbox's connections, or all, oldest first."""
    asked = select(*_COLUMNS).where(_connections.c.is_active).order_by(_connections.c.id)
    if sandbox is not None:
        asked = asked.where(_connections.c.sandbox_id == sandbox.id)
    return [_connection(row) for row in await conn.execute(asked)]


async def remove_connection(conn: AsyncConnection, public_id: str) -> None:
    """
    Remove a connection.

    Raises:
        NotFound: No such connection.
    """
    removed = await conn.execute(
        update(_connections)
        .where(_connections.c.public_id == public_id, _connections.c.is_active)
        .values(is_active=False)
    )
    if not removed.rowcount:
        raise NotFound(f"there is no base connection {public_id}")


async def _find(conn: AsyncConnection, *conditions: ColumnElement[bool]) -> BaseConnection | None:
    row = (await conn.execute(select(*_COLUMNS).where(*conditions))).one_or_none()
    return None if row is None else _connection(row)


def _connection(row: Row[Any]) -> BaseConnection:
    return BaseConnection(**row._asdict())
