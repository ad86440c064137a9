"""
Queries of uploads: URLs, each for a single file.

An upload's file, once arrived, creates a job, whose state is the upload's. Of two files put to a
URL at once, that whose job is recorded first counts.
"""

import secrets
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import uploads as _uploads
from segments.model.account import Account
from segments.model.audience import Audience
from segments.model.order import SegmentAction

_KEY_BYTES = 12
_ATTEMPTS = 20


class Upload(NamedTuple):
    """A row of `uploads`."""

    id: int
    request_id: str
    key: str
    account_id: int
    audience_id: int
    file_name: str
    action: SegmentAction
    hash_type: str
    created_at_s: int
    expires_at_s: int
    job_id: int | None


class UsedBefore(Exception):
    """The upload already has a file."""


_COLUMNS = tuple(_uploads.c[name] for name in Upload._fields)


async def add_upload(
    conn: AsyncConnection,
    account: Account,
    audience: Audience,
    *,
    file_name: str,
    action: SegmentAction,
    hash_type: str,
    now_s: float,
    expires_at_s: float,
) -> Upload:
    """
    Add an upload that an account requests, to change an audience.

    `file_name` is the partner's; `hash_type` is md5, sha1 or sha2; the URL is valid until
    `expires_at_s`.
    """
    row = {
        "key": secrets.token_hex(_KEY_BYTES),
        "account_id": account.id,
        "audience_id": audience.id,
        "file_name": file_name,
        "action": action.value,
        "hash_type": hash_type,
        "created_at_s": int(now_s),
        "expires_at_s": int(expires_at_s),
    }
    for _ in range(_ATTEMPTS):
        # The vendor's format: a time with six digits after the point, ours random.
        request_id = f"{int(now_s)}.{secrets.randbelow(10**6):06}"
        try:
            async with conn.begin_nested():
                inserted = await conn.execute(
                    insert(_uploads).values({**row, "request_id": request_id}).returning(*_COLUMNS)
                )
                return _upload(inserted.one())
        except IntegrityError:
            continue
    raise RuntimeError("no request id is free in this second")


async def find_upload(conn: AsyncConnection, account: Account, request_id: str) -> Upload | None:
    """Return an upload that an account requested."""
    return await _find(
        conn, _uploads.c.request_id == request_id, _uploads.c.account_id == account.id
    )


async def upload_of_key(conn: AsyncConnection, key: str) -> Upload | None:
    """Return the upload whose URL has this key."""
    return await _find(conn, _uploads.c.key == key)


async def is_any_awaited(conn: AsyncConnection, expires_after_s: float) -> bool:
    """Tell whether any upload that lacks a file has a URL valid after `expires_after_s`."""
    asked = select(_uploads.c.id).where(
        _uploads.c.expires_at_s > expires_after_s, _uploads.c.job_id.is_(None)
    )
    return (await conn.execute(asked.limit(1))).first() is not None


async def arrived(conn: AsyncConnection, upload: Upload, job_id: int) -> None:
    """
    Record the job of an upload's file.

    Raises:
        UsedBefore: The upload has a job; the caller must withdraw its own.
    """
    noted = await conn.execute(
        update(_uploads)
        .where(_uploads.c.id == upload.id, _uploads.c.job_id.is_(None))
        .values(job_id=job_id)
    )
    if noted.rowcount != 1:
        raise UsedBefore


async def _find(conn: AsyncConnection, *conditions: ColumnElement[bool]) -> Upload | None:
    row = (await conn.execute(select(*_COLUMNS).where(*conditions))).one_or_none()
    return None if row is None else _upload(row)


def _upload(row: Row[Any]) -> Upload:
    return Upload(**{**row._asdict(), "action": SegmentAction(row.action)})
