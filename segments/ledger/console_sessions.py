"""
Queries of the console's sessions.

A session is a cookie of 32 random bytes, of which only the SHA-256 is kept. It ends after a time
without a request, and after a longer time anyway; a revocation or a new password ends it at once.
Staff has shorter times than partners.

The REST doors' sessions differ: a browser sends several requests at a time, and their refresh token
works once.
"""

import hashlib
import secrets
from typing import NamedTuple

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.staff import Staff
from segments.ledger.tables import console_sessions as _sessions
from segments.ledger.users import User
from segments.model.day import S_PER_DAY

TOKEN_BYTES = 32
PENDING_S = 600
"""Staff's time for the code, after the password."""

_SEEN_EVERY_S = 30  # a request within this time of the last writes nothing


class Lifetime(NamedTuple):
    """When a session ends, in seconds."""

    idle_s: int
    longest_s: int


USERS = Lifetime(12 * 3600, 30 * S_PER_DAY)
STAFFS = Lifetime(1800, 12 * 3600)


class ConsoleSession(NamedTuple):
    """A row of `console_sessions`."""

    token_sha256: bytes
    user_id: int | None
    staff_id: int | None
    created_at_s: int
    seen_at_s: int
    expires_at_s: int
    proven_at_s: int | None


_COLUMNS = tuple(_sessions.c[name] for name in ConsoleSession._fields)


async def begin(
    conn: AsyncConnection, person: User | Staff, *, is_proven: bool, now_s: float
) -> str:
    """
    Begin a session, and delete the person's ended sessions; return the cookie's text.

    `is_proven`: false after staff's password, before the code.
    """
    is_staff = isinstance(person, Staff)
    lifetime = STAFFS if is_staff else USERS
    column = _sessions.c.staff_id if is_staff else _sessions.c.user_id
    await conn.execute(
        delete(_sessions).where(
            column == person.id,
            or_(
                _sessions.c.expires_at_s <= int(now_s),
                _sessions.c.seen_at_s <= int(now_s) - lifetime.idle_s,
            ),
        )
    )
    token = secrets.token_hex(TOKEN_BYTES)
    row = {
        "token_sha256": _sha256(token),
        column.name: person.id,
        "created_at_s": int(now_s),
        "seen_at_s": int(now_s),
        "expires_at_s": int(now_s) + (lifetime.longest_s if is_proven else PENDING_S),
        "proven_at_s": int(now_s) if is_proven else None,
    }
    await conn.execute(insert(_sessions).values(row))
    return token


async def find(conn: AsyncConnection, token: str, *, now_s: float) -> ConsoleSession | None:
    """Return the session of a cookie, unless it has ended."""
    asked = select(*_COLUMNS).where(
        _sessions.c.token_sha256 == _sha256(token), _sessions.c.expires_at_s > int(now_s)
    )
    row = (await conn.execute(asked)).one_or_none()
    if row is None:
        return None
    found = ConsoleSession(*row)
    lifetime = USERS if found.staff_id is None else STAFFS
    return found if found.seen_at_s + lifetime.idle_s > now_s else None


def is_due(session: ConsoleSession, now_s: float) -> bool:
    """Tell whether a request has to be recorded, by `see`."""
    return abs(now_s - session.seen_at_s) >= _SEEN_EVERY_S


async def see(conn: AsyncConnection, session: ConsoleSession, *, now_s: float) -> None:
    """Record that a session was used."""
    await _set(conn, session, seen_at_s=int(now_s))


async def prove(conn: AsyncConnection, session: ConsoleSession, *, now_s: float) -> None:
    """Record that a session's person gave another proof."""
    await _set(conn, session, proven_at_s=int(now_s))


async def end(conn: AsyncConnection, session: ConsoleSession) -> None:
    """End a session."""
    await conn.execute(delete(_sessions).where(_sessions.c.token_sha256 == session.token_sha256))


async def _set(conn: AsyncConnection, session: ConsoleSession, **values: int) -> None:
    await conn.execute(
        update(_sessions).where(_sessions.c.token_sha256 == session.token_sha256).values(values)
    )


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
