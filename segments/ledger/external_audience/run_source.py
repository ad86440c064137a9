"""
The source of a run: its files, their base connection, and the columns to read.

Apart from `runs`, which imports jobs, because a job imports this.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.base_connection import BaseConnection
from segments.files.customer_storage import SourceFile
from segments.ledger.database.engine import reading
from segments.ledger.external_audience import base_connections
from segments.ledger.tables import external_audiences as _external
from segments.ledger.tables import external_run_files as _files
from segments.ledger.tables import external_runs as _runs
from segments.model.customer_columns import CONTROLS, Columns, IdentityColumn, column_key
from segments.model.refusal import NotFound


class RunSource(NamedTuple):
    """The source of a run, for `segments.ingest.external_audience.collect`."""

    connection: BaseConnection | None  # `None`: removed
    files: list[SourceFile]  # in reading order
    columns: Columns
    collected: dict[str, Any] | None  # the result of reading them; `None`: unread


def columns_of(spec: Mapping[str, Any]) -> Columns:
    """Return the columns of an external audience's `fields`."""
    fields = spec["fields"]
    said = {column_key(f["name"]) for f in fields if not f.get("identityNs")}
    return Columns(
        tuple(IdentityColumn(f["name"], f["identityNs"]) for f in fields if f.get("identityNs")),
        tuple(name for name in CONTROLS if name in said),
    )


async def of_run(ledger: AsyncEngine, run_id: str) -> RunSource:
    """Return the source of a run."""
    asked = (
        select(_runs.c.id, _runs.c.collected, _external.c.spec, _external.c.connection_id)
        .join(_external, _external.c.id == _runs.c.external_audience_id)
        .where(_runs.c.public_id == run_id)
    )
    columns = [_files.c[name] for name in SourceFile._fields]
    async with reading(ledger) as conn:
        number, collected, spec, connection_id = (await conn.execute(asked)).one()
        try:
            connection = await base_connections.connection(conn, connection_id)
        except NotFound:
            connection = None
        listed = select(*columns).where(_files.c.run_id == number).order_by(_files.c.number)
        files = [SourceFile(*row) for row in await conn.execute(listed)]
    return RunSource(connection, files, columns_of(spec), collected)


async def keep_collected(ledger: AsyncEngine, run_id: str, collected: Mapping[str, Any]) -> None:
    """Record that a run's files are all read: its blob is now the source."""
    noted = update(_runs).where(_runs.c.public_id == run_id).values(collected=dict(collected))
    async with ledger.begin() as conn:
        await conn.execute(noted)
