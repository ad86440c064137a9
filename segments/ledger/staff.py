"""
Queries of staff: the deployment's people who use the console.

No account is a default: `rtb-segments staff add`, on the machine, makes the first.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.checked_text import checked_text
from segments.ledger.tables import console_sessions as _sessions
from segments.ledger.tables import staff as _staff
from segments.ledger.tables import users as _users
from segments.ledger.users import MAX_USERNAME_CHARS
from segments.model.account import Account
from segments.model.refusal import Duplicate, NotFound, Refusal
from segments.model.role import STAFF_ROLES, Role


class Staff(NamedTuple):
    """A row of `staff`."""

    id: int
    username: str
    password_hash: str
    roles: frozenset[Role]
    account_id: int | None
    totp_secret: str | None
    totp_step: int | None
    is_active: bool
    time_zone: str | None = None  # in which the console shows times; `None`: UTC

    @property
    def is_enrolled(self) -> bool:
        """Whether a code was ever accepted."""
        return self.totp_step is not None


_COLUMNS = tuple(_staff.c[name] for name in Staff._fields)


async def add_staff(
    conn: AsyncConnection,
    username: str,
    roles: Collection[Role],
    password_hash: str,
    *,
    account: Account | None = None,
    now_s: float,
) -> Staff:
    """
    Add a member of staff, whose second factor is made at the first login.

    `conn` is a transaction; `username` is in any case; `roles` are of `STAFF_ROLES`; `account`:
    that a privacy desk acts for; `None`: the deployment.

    Raises:
        Duplicate: Staff or a user has this name.
        Refusal: The name is unusable, or the roles do not fit.
    """
    checked_text("username", username, max_chars=MAX_USERNAME_CHARS)
    if not roles or not set(roles) <= set(STAFF_ROLES):
        raise Refusal(f"staff is of the roles {', '.join(STAFF_ROLES)}")
    if account is not None and set(roles) != {Role.PRIVACY}:
        raise Refusal("only a privacy desk may act for a single account")
    taken = select(_users.c.id).where(_users.c.username == username.lower())
    row = {
        "username": username.lower(),
        "password_hash": password_hash,
        "roles": " ".join(sorted(roles)),
        "account_id": None if account is None else account.id,
        "created_at_s": int(now_s),
    }
    try:
        async with conn.begin_nested():
            inserted = await conn.execute(insert(_staff).values(row).returning(*_COLUMNS))
            added = _member(inserted.one())
    except IntegrityError:
        raise Duplicate(f"there is staff {username} already") from None
    if await conn.scalar(taken) is not None:
        raise Duplicate(f"there is a user {username} already")
    return added


async def find_staff(conn: AsyncConnection, username: str) -> Staff | None:
    """Return a member of staff by name, in any case."""
    return await _find(conn, _staff.c.username == username.lower())


async def staff(conn: AsyncConnection, username: str) -> Staff:
    """
    Return a member of staff by name.

    Raises:
        NotFound: There is none.
    """
    found = await find_staff(conn, username)
    if found is None:
        raise NotFound(f"there is no staff {username}")
    return found


async def staff_of_id(conn: AsyncConnection, staff_id: int) -> Staff | None:
    """Return a member of staff by number."""
    return await _find(conn, _staff.c.id == staff_id)


async def all_staff(conn: AsyncConnection) -> list[Staff]:
    """Return all staff, oldest first."""
    return [_member(row) for row in await conn.execute(select(*_COLUMNS).order_by(_staff.c.id))]


async def set_time_zone(conn: AsyncConnection, member: Staff, name: str | None) -> None:
    """Set a member's zone of times in the console; `None`: UTC."""
    await _set(conn, member, time_zone=name)


async def set_password(
    conn: AsyncConnection, member: Staff, password_hash: str, *, forgets_code: bool
) -> None:
    """
    Set a password, lift a revocation, and end all sessions.

    `forgets_code`: the next login makes another second factor, as after a lost phone.
    """
    values: dict[str, Any] = {"password_hash": password_hash, "is_active": True}
    if forgets_code:
        values.update(totp_secret=None, totp_step=None)
    await _set(conn, member, **values)
    await _end_sessions(conn, member)


async def renew_hash(conn: AsyncConnection, member: Staff, password_hash: str) -> None:
    """Store a new hash of the same password, unless the password has changed."""
    await conn.execute(
        update(_staff)
        .where(_staff.c.id == member.id, _staff.c.password_hash == member.password_hash)
        .values(password_hash=password_hash)
    )


async def revoke(conn: AsyncConnection, member: Staff) -> None:
    """Revoke the access at once, until there is a new password."""
    await _set(conn, member, is_active=False)
    await _end_sessions(conn, member)


async def draw_secret(conn: AsyncConnection, member: Staff, secret: str) -> None:
    """Store the secret of a second factor to be enrolled."""
    await conn.execute(
        update(_staff)
        .where(_staff.c.id == member.id, _staff.c.totp_step.is_(None))
        .values(totp_secret=secret)
    )


async def use_step(conn: AsyncConnection, member: Staff, step: int) -> bool:
    """
    Record the 30 seconds of an accepted code; each works once.

    Returns:
        Whether it is later than the last; only then is the code accepted.
    """
    used = await conn.execute(
        update(_staff)
        .where(
            _staff.c.id == member.id,
            _staff.c.totp_secret == member.totp_secret,
            or_(_staff.c.totp_step.is_(None), _staff.c.totp_step < step),
        )
        .values(totp_step=step)
    )
    return used.rowcount == 1


async def _find(conn: AsyncConnection, condition: ColumnElement[bool]) -> Staff | None:
    row = (await conn.execute(select(*_COLUMNS).where(condition))).one_or_none()
    return None if row is None else _member(row)


async def _set(conn: AsyncConnection, member: Staff, **values: Any) -> None:
    await conn.execute(update(_staff).where(_staff.c.id == member.id).values(values))


async def _end_sessions(conn: AsyncConnection, member: Staff) -> None:
    await conn.execute(delete(_sessions).where(_sessions.c.staff_id == member.id))


def _member(row: Row[Any]) -> Staff:
    values = {name: getattr(row, name) for name in Staff._fields}
    return Staff(**{**values, "roles": frozenset(map(Role, row.roles.split()))})
