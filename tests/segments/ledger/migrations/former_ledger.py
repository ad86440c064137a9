"""A ledger at an earlier revision, and its rows as processes of that release wrote them."""

from typing import Any

import msgspec
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from segments.settings import Settings


def raw_engine(settings: Settings) -> AsyncEngine:
    """Return an engine that knows nothing of the product."""
    scheme, _, rest = settings.ledger_dsn.partition("://")
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    driver = "postgresql+asyncpg" if scheme.startswith("postgresql") else scheme
    return create_async_engine(f"{driver}://{rest}")


async def bring_to(raw: AsyncEngine, revision: str) -> None:
    """Migrate an empty database up to an earlier revision."""

    def upgrade(conn: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", "segments.ledger:migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = conn
        command.upgrade(config, revision)

    async with raw.begin() as conn:
        await conn.run_sync(upgrade)


async def add_partner(conn: AsyncConnection) -> None:
    """Add account 1, whose all jobs are."""
    await conn.execute(
        text(
            "insert into accounts (kind, public_id, id_space, name, created_at_s)"
            " values ('advertiser', 'p', 'partner', 'Partner', 0)"
        )
    )


async def add_job(conn: AsyncConnection, name: str, metadata: dict[str, Any]) -> None:
    """Add a job as revision 0008 has it: what is asked for stands in its metadata."""
    await conn.execute(
        text(
            "insert into jobs (transaction_id, door, partner_id, owner_id, fingerprint, blob,"
            " file_name, metadata, state, created_at_s)"
            " values (:name, 'test', 1, 1, :name, :name, :name, :metadata, 'queued', 0)"
        ),
        {"name": name, "metadata": msgspec.json.encode(metadata).decode()},
    )
