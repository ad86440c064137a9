"""
Queries of external audiences: requested creations and their results.

A row starts as an operation (`PROCESSING`), whose success creates an audience of ours. It reserves
the name in its sandbox; a failed creation, or a deletion, frees the name.
"""

import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts, audiences
from segments.ledger.external_audience.orgs import Sandbox
from segments.ledger.revision import lock_catalog
from segments.ledger.tables import external_audiences as _external
from segments.ledger.tables import org_sandboxes
from segments.model.refusal import Duplicate


class Status(StrEnum):
    """State of an audience's creation."""

    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class ExternalAudience(NamedTuple):
    """A row of `external_audiences`."""

    id: int
    public_id: str  # `audienceId`
    operation_id: str
    sandbox_id: int
    connection_id: int
    namespace: str
    name: str
    custom_id: str | None
    ttl_days: int
    spec: dict[str, Any]  # the other members of the request
    status: Status
    error: str | None
    audience_id: int | None  # the ledger's number, once created
    created_by: str
    created_at_s: int
    updated_by: str
    updated_at_s: int
    deleted_at_s: int | None


_COLUMNS = tuple(_external.c[name] for name in ExternalAudience._fields)


async def add(
    conn: AsyncConnection,
    sandbox: Sandbox,
    *,
    connection_id: int,
    namespace: str,
    name: str,
    custom_id: str | None,
    ttl_days: int,
    spec: Mapping[str, Any],
    user_id: str,
    now_s: float,
) -> ExternalAudience:
    """
    Begin to create an external audience.

    Raises:
        Duplicate: The sandbox has this name in its namespace, or this custom id.
    """
    row = {
        "public_id": str(uuid.uuid4()),
        "operation_id": str(uuid.uuid4()),
        "sandbox_id": sandbox.id,
        "connection_id": connection_id,
        "namespace": namespace,
        "name": name,
        "custom_id": custom_id,
        "ttl_days": ttl_days,
        "spec": dict(spec),
        "status": Status.PROCESSING.value,
        "created_by": user_id,
        "created_at_s": int(now_s),
        "updated_by": user_id,
        "updated_at_s": int(now_s),
    }
    try:
        async with conn.begin_nested():
            inserted = await conn.execute(insert(_external).values(row).returning(*_COLUMNS))
            return _of(inserted.one())
    except IntegrityError:
        raise Duplicate("there is an external audience of this name or customAudienceId") from None


async def succeed(conn: AsyncConnection, external_id: int, *, now_s: float) -> ExternalAudience:
    """Create a pending operation's audience; ignore any other."""
    # Lock order as everywhere: the catalog, then our row. See `lock_catalog`.
    await lock_catalog(conn)
    asked = select(*_COLUMNS).where(_external.c.id == external_id).with_for_update()
    found = _of((await conn.execute(asked)).one())
    if found.status is not Status.PROCESSING:
        return found
    account_id: int = (
        await conn.execute(
            select(org_sandboxes.c.account_id).where(org_sandboxes.c.id == found.sandbox_id)
        )
    ).scalar_one()
    owner = await accounts.account(conn, account_id)
    partner = await accounts.partner_of(conn, owner)
    audience = await audiences.add_audience(
        conn, owner, partner, found.name, ttl_days=found.ttl_days, now_s=now_s
    )
    return await _change(conn, found, {"status": Status.SUCCESS.value, "audience_id": audience.id})


async def fail(conn: AsyncConnection, external_id: int, why: str) -> None:
    """End a pending creation as failed, without an audience."""
    await conn.execute(
        update(_external)
        .where(_external.c.id == external_id, _external.c.status == Status.PROCESSING.value)
        .values(status=Status.FAILED.value, error=why[:512])
    )


async def of_operation(
    conn: AsyncConnection, sandbox: Sandbox, operation_id: str
) -> ExternalAudience | None:
    """Return the external audience of a sandbox's operation, in any state."""
    return await _find(
        conn, _external.c.operation_id == operation_id, _external.c.sandbox_id == sandbox.id
    )


async def find(conn: AsyncConnection, sandbox: Sandbox, public_id: str) -> ExternalAudience | None:
    """Return a sandbox's existing external audience: created, not deleted."""
    return await _find(
        conn,
        _external.c.public_id == public_id,
        _external.c.sandbox_id == sandbox.id,
        _external.c.status == Status.SUCCESS.value,
        _external.c.deleted_at_s.is_(None),
    )


async def is_deleted(
    conn: AsyncConnection, sandbox: Sandbox, public_id: str, after_s: float
) -> bool:
    """Tell whether a sandbox's external audience was deleted after `after_s`."""
    found = await _find(
        conn,
        _external.c.public_id == public_id,
        _external.c.sandbox_id == sandbox.id,
        _external.c.deleted_at_s > after_s,
    )
    return found is not None


async def by_id(conn: AsyncConnection, external_id: int) -> ExternalAudience:
    """Return an external audience by its number."""
    found = await _find(conn, _external.c.id == external_id)
    assert found is not None, "rows of it are never deleted"
    return found


async def change(
    conn: AsyncConnection,
    external: ExternalAudience,
    *,
    spec: Mapping[str, Any],
    ttl_days: int,
    user_id: str,
    now_s: float,
) -> ExternalAudience:
    """Replace the mutable fields; a new TTL applies from the next run on."""
    assert external.audience_id is not None, "it is there"
    audience = await audiences.audience(conn, external.audience_id)
    if ttl_days != external.ttl_days:
        await audiences.set_ttl(conn, audience, ttl_days, now_s=now_s)
    fields = {
        "spec": dict(spec),
        "ttl_days": ttl_days,
        "updated_by": user_id,
        "updated_at_s": int(now_s),
    }
    return await _change(conn, external, fields)


async def delete(
    conn: AsyncConnection, external: ExternalAudience, *, user_id: str, now_s: float
) -> None:
    """Delete an external audience, its audience and its description."""
    assert external.audience_id is not None, "it is there"
    await lock_catalog(conn)
    audience = await audiences.audience(conn, external.audience_id)
    await audiences.delete_with_name(conn, audience, now_s=now_s)
    fields: dict[str, Any] = {
        "name": "",
        "namespace": "",
        "custom_id": None,
        "spec": {"fields": []},
        "error": None,
        "deleted_at_s": int(now_s),
        "updated_by": user_id,
        "updated_at_s": int(now_s),
    }
    await _change(conn, external, fields)


async def _change(
    conn: AsyncConnection, external: ExternalAudience, fields: Mapping[str, Any]
) -> ExternalAudience:
    changed = await conn.execute(
        update(_external).where(_external.c.id == external.id).values(**fields).returning(*_COLUMNS)
    )
    return _of(changed.one())


async def _find(conn: AsyncConnection, *conditions: ColumnElement[bool]) -> ExternalAudience | None:
    row = (await conn.execute(select(*_COLUMNS).where(*conditions))).one_or_none()
    return None if row is None else _of(row)


def _of(row: Row[Any]) -> ExternalAudience:
    return ExternalAudience(**{**row._asdict(), "status": Status(row.status)})
