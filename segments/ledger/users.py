"""
Queries of users and their login sessions.

A refresh token is 40 hex digits, as the vendor's: 16 name the session, the rest is its secret, of
which only the SHA-256 is kept. Each works once: a token without its session's current secret is
known to two parties, so it was stolen, and the session ends.
"""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts
from segments.ledger.checked_text import checked_text
from segments.ledger.tables import console_sessions as _console_sessions
from segments.ledger.tables import sessions as _sessions
from segments.ledger.tables import staff as _staff
from segments.ledger.tables import users as _users
from segments.model.account import PARTNER_KINDS, Account
from segments.model.refusal import Duplicate, NotFound, Refusal

MAX_USERNAME_CHARS = 128
_HANDLE_CHARS = 16
_SECRET_CHARS = 24


class User(NamedTuple):
    """A row of `users`."""

    id: int
    public_id: str  # `userId`
    username: str
    account_id: int
    password_hash: str
    is_active: bool
    is_admin: bool = False  # manages the account's keys and logins in the console
    must_change: bool = False  # the password was generated, and handed over by another person
    time_zone: str | None = None  # in which the console shows times; `None`: UTC


class ListedUser(NamedTuple):
    """A user, and the use of the console."""

    user: User
    created_at_s: int
    seen_at_s: int | None  # of the latest session that is kept
    sessions: int


class Session(NamedTuple):
    """A login, with its current refresh token."""

    id: int
    user: User
    refresh_token: str


_COLUMNS = tuple(_users.c[name] for name in User._fields)


async def add_user(
    conn: AsyncConnection,
    username: str,
    account: Account,
    password_hash: str,
    *,
    is_admin: bool = False,
    must_change: bool = False,
    now_s: float,
) -> User:
    """
    Add a user of a partner's account.

    `is_admin`: manages the account's keys and logins in the console. `must_change`: the password
    was generated, and handed over by another person.

    Raises:
        Duplicate: A user or staff with this name exists.
        Refusal: The name is unusable, or the account can't deliver files.
    """
    checked_text("username", username, max_chars=MAX_USERNAME_CHARS)
    if account.kind not in PARTNER_KINDS:
        raise Refusal("only partners and their sub accounts have users")
    row = {
        "public_id": uuid.uuid4().hex,
        "username": username.lower(),
        "account_id": account.id,
        "password_hash": password_hash,
        "is_admin": is_admin,
        "must_change": must_change,
        "created_at_s": int(now_s),
    }
    try:
        async with conn.begin_nested():
            inserted = await conn.execute(insert(_users).values(row).returning(*_COLUMNS))
            added = _user(inserted.one())
    except IntegrityError:
        raise Duplicate(f"there is a user {username} already") from None
    taken = select(_staff.c.id).where(_staff.c.username == username.lower())
    if await conn.scalar(taken) is not None:
        raise Duplicate(f"there is staff {username} already")
    return added


async def find_user(conn: AsyncConnection, username: str) -> User | None:
    """Return a user by name, in any case."""
    return await _find(conn, _users.c.username == username.lower())


async def user(conn: AsyncConnection, username: str) -> User:
    """
    Return a user by name.

    Raises:
        NotFound: No such user.
    """
    found = await find_user(conn, username)
    if found is None:
        raise NotFound(f"there is no user {username}")
    return found


async def users(conn: AsyncConnection) -> list[User]:
    """Return all users, oldest first."""
    return [_user(row) for row in await conn.execute(select(*_COLUMNS).order_by(_users.c.id))]


async def listed(
    conn: AsyncConnection, account_ids: Collection[int], *, now_s: float
) -> list[ListedUser]:
    """Return the users of some accounts, oldest first, with their open console sessions."""
    sessions = (
        select(
            _console_sessions.c.user_id,
            func.count().label("open"),
            func.max(_console_sessions.c.seen_at_s).label("seen"),
        )
        .where(_console_sessions.c.expires_at_s > int(now_s))
        .group_by(_console_sessions.c.user_id)
        .subquery()
    )
    asked = (
        select(*_COLUMNS, _users.c.created_at_s, sessions.c.open, sessions.c.seen)
        .join(sessions, sessions.c.user_id == _users.c.id, isouter=True)
        .where(_users.c.account_id.in_(account_ids))
        .order_by(_users.c.id)
    )
    rows: Sequence[Any] = (await conn.execute(asked)).all()
    return [ListedUser(_user(row), row.created_at_s, row.seen, row.open or 0) for row in rows]


async def set_password(
    conn: AsyncConnection, user: User, password_hash: str, *, must_change: bool = False
) -> None:
    """Set a user's password, lift a revocation, and end all sessions."""
    await _set(conn, user, password_hash=password_hash, is_active=True, must_change=must_change)
    await _end_sessions(conn, user)


async def set_admin(conn: AsyncConnection, user: User, *, is_admin: bool) -> None:
    """Let a user manage the account's keys and logins in the console, or no longer."""
    await _set(conn, user, is_admin=is_admin)


async def set_time_zone(conn: AsyncConnection, user: User, name: str | None) -> None:
    """Set a user's zone of times in the console; `None`: UTC."""
    await _set(conn, user, time_zone=name)


async def end_sessions(conn: AsyncConnection, user: User) -> None:
    """End the logins of a user, who may log in again."""
    await _end_sessions(conn, user)


async def renew_hash(conn: AsyncConnection, user: User, password_hash: str) -> None:
    """Store a new hash of the same password, unless the password has changed."""
    await conn.execute(
        update(_users)
        .where(_users.c.id == user.id, _users.c.password_hash == user.password_hash)
        .values(password_hash=password_hash)
    )


async def revoke(conn: AsyncConnection, user: User) -> None:
    """Revoke a user's access at once, until the user gets a new password."""
    await _set(conn, user, is_active=False)
    await _end_sessions(conn, user)


async def begin_session(
    conn: AsyncConnection, user: User, *, now_s: float, expires_at_s: float
) -> Session:
    """
    Begin an authenticated user's session, and delete expired ones; it ends at `expires_at_s` unless
    refreshed.
    """
    await conn.execute(
        delete(_sessions).where(
            _sessions.c.user_id == user.id, _sessions.c.expires_at_s <= int(now_s)
        )
    )
    handle, secret = _draw(_HANDLE_CHARS), _draw(_SECRET_CHARS)
    row = {
        "user_id": user.id,
        "handle": handle,
        "secret_sha256": _sha256(secret),
        "created_at_s": int(now_s),
        "expires_at_s": int(expires_at_s),
    }
    inserted = await conn.execute(insert(_sessions).values(row).returning(_sessions.c.id))
    return Session(inserted.scalar_one(), user, handle + secret)


async def refresh_session(
    conn: AsyncConnection, refresh_token: str, *, now_s: float, expires_at_s: float
) -> Session | None:
    """
    Continue a session, until `expires_at_s`, under a new refresh token.

    Returns:
        `None` if the token is not valid; commit the transaction even then.
    """
    handle, secret = refresh_token[:_HANDLE_CHARS], refresh_token[_HANDLE_CHARS:]
    row = await _open_session(conn, _sessions.c.handle == handle, now_s)
    if row is None:
        return None
    if not hmac.compare_digest(row.secret_sha256, _sha256(secret)):
        await conn.execute(delete(_sessions).where(_sessions.c.id == row.session_id))
        return None
    next_secret = _draw(_SECRET_CHARS)
    renewed = await conn.execute(
        update(_sessions)
        .where(_sessions.c.id == row.session_id, _sessions.c.secret_sha256 == row.secret_sha256)
        .values(secret_sha256=_sha256(next_secret), expires_at_s=int(expires_at_s))
    )
    if renewed.rowcount != 1:
        return None
    return Session(row.session_id, _user(row), handle + next_secret)


async def end_session(conn: AsyncConnection, refresh_token: str) -> None:
    """End the session of a refresh token, if valid; its access tokens end with it."""
    handle, secret = refresh_token[:_HANDLE_CHARS], refresh_token[_HANDLE_CHARS:]
    await conn.execute(
        delete(_sessions).where(
            _sessions.c.handle == handle, _sessions.c.secret_sha256 == _sha256(secret)
        )
    )


async def end_session_of_id(conn: AsyncConnection, session_id: int) -> None:
    """End a session; its access tokens end with it."""
    await conn.execute(delete(_sessions).where(_sessions.c.id == session_id))


async def user_of_public_id(conn: AsyncConnection, public_id: str) -> User | None:
    """Return a user by the id in answers."""
    return await _find(conn, _users.c.public_id == public_id)


async def user_of_id(conn: AsyncConnection, user_id: int) -> User | None:
    """Return a user by number."""
    return await _find(conn, _users.c.id == user_id)


async def user_of_session(conn: AsyncConnection, session_id: int, now_s: float) -> User | None:
    """Return a session's user; `None` if the session ended or the user is revoked."""
    row = await _open_session(conn, _sessions.c.id == session_id, now_s)
    return None if row is None else _user(row)


async def account_of(conn: AsyncConnection, user: User) -> Account | None:
    """Return a user's account; `None` if the account or its agency is switched off."""
    account = await accounts.account(conn, user.account_id)
    parent = None if account.parent_id is None else await accounts.account(conn, account.parent_id)
    is_active = account.is_active and (parent is None or parent.is_active)
    return account if is_active else None


async def _open_session(conn: AsyncConnection, which: ColumnElement[bool], now_s: float) -> Any:
    asked = (
        select(*_COLUMNS, _sessions.c.id.label("session_id"), _sessions.c.secret_sha256)
        .join(_sessions, _sessions.c.user_id == _users.c.id)
        .where(which, _sessions.c.expires_at_s > int(now_s), _users.c.is_active)
    )
    return (await conn.execute(asked)).one_or_none()


async def _find(conn: AsyncConnection, condition: ColumnElement[bool]) -> User | None:
    row = (await conn.execute(select(*_COLUMNS).where(condition))).one_or_none()
    return None if row is None else _user(row)


async def _set(conn: AsyncConnection, user: User, **values: Any) -> None:
    await conn.execute(update(_users).where(_users.c.id == user.id).values(values))


async def _end_sessions(conn: AsyncConnection, user: User) -> None:
    for table in (_sessions, _console_sessions):
        await conn.execute(delete(table).where(table.c.user_id == user.id))


def _user(row: Row[Any]) -> User:
    return User(*(getattr(row, name) for name in User._fields))


def _draw(chars: int) -> str:
    return secrets.token_hex(chars // 2)


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
