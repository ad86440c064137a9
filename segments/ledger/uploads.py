"""
Queries of uploads: URLs that were given out, each for one file.

An upload has no state of its own. It waits until its file has arrived, which
makes a job, and from then on it is what its job is. Of two files put to one URL
at the same time one is the upload's: whichever is named first in its row.
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
    """One row of the ledger's uploads."""

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
    """The upload has its file; this one is another."""


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
    Expect an upload.

    Args:
        conn: A transaction.
        account: Who asked for it.
        audience: What it changes.
        file_name: What the partner calls the file.
        action: What it does.
        hash_type: md5, sha1 or sha2.
        now_s: When.
        expires_at_s: Until when.
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
        # As the vendor's: a time with six digits behind the point. Ours are drawn.
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
    """Return an upload that an account asked for."""
    return await _find(
        conn, _uploads.c.request_id == request_id, _uploads.c.account_id == account.id
    )


async def upload_of_key(conn: AsyncConnection, key: str) -> Upload | None:
    """Return the upload whose URL has that key."""
    return await _find(conn, _uploads.c.key == key)


async def is_any_awaited(conn: AsyncConnection, expires_after_s: float) -> bool:
    """Tell whether there is an upload without a file whose URL expires after that."""
    asked = select(_uploads.c.id).where(
        _uploads.c.expires_at_s > expires_after_s, _uploads.c.job_id.is_(None)
    )
    return (await conn.execute(asked.limit(1))).first() is not None


async def arrived(conn: AsyncConnection, upload: Upload, job_id: int) -> None:
    """
    Note which job carries an upload's file.

    Raises:
        UsedBefore: There is one; whoever made this job must take it back.
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
