"""
Files that were announced and have not arrived: no job knows of them yet.

    a metadata file of the LiveAudience door, without its data file
    a URL of the Audience API to which no file was put, until it expires
"""

from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts
from segments.ledger.tables import deliveries as _deliveries
from segments.ledger.tables import uploads as _uploads
from segments.model.account import Account

MAX_FILES = 20


class AnnouncedBy(StrEnum):
    """What has announced a file."""

    METADATA = "metadata"
    URL = "url"


class ExpectedFile(NamedTuple):
    """A file that has not arrived."""

    name: str
    by: AnnouncedBy
    since_s: float
    until_s: float | None  # `None`: see SEGMENTS_DROP_WAIT_S


async def expected_files(
    conn: AsyncConnection, account: Account | None, *, now_s: float
) -> list[ExpectedFile]:
    """
    Return the last `MAX_FILES` of an account and its sub accounts, newest first.

    `account`: `None`: of all.
    """
    announced = (
        select(_deliveries.c.name, _deliveries.c.received_at_s)
        .where(_deliveries.c.answered_at_s.is_(None), _deliveries.c.job_id.is_(None))
        .order_by(_deliveries.c.id.desc())
        .limit(MAX_FILES)
    )
    given = (
        select(_uploads.c.file_name, _uploads.c.created_at_s, _uploads.c.expires_at_s)
        .where(_uploads.c.expires_at_s > now_s, _uploads.c.job_id.is_(None))
        .order_by(_uploads.c.id.desc())
        .limit(MAX_FILES)
    )
    if account is not None:
        ids = {each.id for each in await accounts.accounts(conn) if each.parent_id == account.id}
        announced = announced.where(_deliveries.c.account_id.in_({account.id, *ids}))
        given = given.where(_uploads.c.account_id.in_({account.id, *ids}))
    found = [
        ExpectedFile(name, AnnouncedBy.METADATA, since_s, None)
        for name, since_s in await conn.execute(announced)
    ]
    found += [
        ExpectedFile(name, AnnouncedBy.URL, since_s, until_s)
        for name, since_s, until_s in await conn.execute(given)
    ]
    return sorted(found, key=lambda each: -each.since_s)[:MAX_FILES]
