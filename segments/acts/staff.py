from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger import accounts, console_sessions, staff, users
from segments.ledger.console_sessions import ConsoleSession
from segments.ledger.privacy import audit
from segments.ledger.privacy.audit import Actor, Entry, Who
from segments.ledger.staff import Staff
from segments.ledger.users import User
from segments.model.account import Account
from segments.model.role import Role


async def add_staff(
    conn: AsyncConnection,
    by: By,
    username: str,
    roles: Collection[Role],
    password_hash: str,
    account: Account | None = None,
    totp_secret: str | None = None,
) -> Staff:
    """Add a member of staff; without a `totp_secret` the first login makes one."""
    added = await staff.add_staff(
        conn, username, roles, password_hash, account=account, now_s=by.now_s
    )
    if totp_secret is not None:
        await staff.draw_secret(conn, added, totp_secret)
    detail = {
        "roles": " ".join(sorted(roles)),
        "account": None if account is None else account.public_id,
    }
    await note(conn, by, "staff add", added.username, detail=detail)
    return added


async def set_password(
    conn: AsyncConnection, by: By, member: Staff, password_hash: str, *, forgets_code: bool
) -> None:
    """Change a member's password, and end the open sessions."""
    await staff.set_password(conn, member, password_hash, forgets_code=forgets_code)
    detail = {"forgets_code": forgets_code}
    await note(conn, by, "staff password", member.username, detail=detail)


async def set_time_zone(
    conn: AsyncConnection, by: By, person: User | Staff, name: str | None
) -> None:
    """Set the zone in which the console shows times to a person; `None`: UTC."""
    detail = {"zone": name or "UTC"}
    if isinstance(person, Staff):
        await staff.set_time_zone(conn, person, name)
        await note(conn, by, "staff time zone", person.username, detail=detail)
        return
    await users.set_time_zone(conn, person, name)
    account = await accounts.account(conn, person.account_id)
    await note(conn, by, "user time zone", person.username, scope=account, detail=detail)


async def revoke_staff(conn: AsyncConnection, by: By, member: Staff) -> None:
    """Revoke a member's access."""
    await staff.revoke(conn, member)
    await note(conn, by, "staff revoke", member.username)


def who_is(person: User | Staff) -> Who:
    """Return a visitor of the console as the actor of acts."""
    actor = Actor.STAFF if isinstance(person, Staff) else Actor.USER
    return Who(actor, person.username, person.account_id)


async def log_in(
    conn: AsyncConnection, person: User | Staff, *, is_proven: bool, now_s: float
) -> str:
    """Begin a session and return its cookie; only a proven one is a login, with a row."""
    token = await console_sessions.begin(conn, person, is_proven=is_proven, now_s=now_s)
    if is_proven:
        await _note_visit(conn, By(who_is(person), now_s), "login", person)
    return token


async def refuse_login(conn: AsyncConnection, person: User | Staff, why: str, now_s: float) -> None:
    """
    Record a refused login of a known name. An unknown name leaves no row: it may be a password.
    """
    entry = Entry("login", refused_because=why, target=person.username)
    await audit.add(conn, who_is(person), [entry], now_s=now_s)


async def log_out(
    conn: AsyncConnection, by: By, session: ConsoleSession, person: User | Staff
) -> None:
    """End a session."""
    await console_sessions.end(conn, session)
    await _note_visit(conn, by, "logout", person)


async def _note_visit(conn: AsyncConnection, by: By, what: str, person: User | Staff) -> None:
    scope = None
    if person.account_id is not None:
        scope = await accounts.account(conn, person.account_id)
    await note(conn, by, what, person.username, scope=scope)
