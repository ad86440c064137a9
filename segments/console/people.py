"""The visitor of a request, by the session of its cookie."""

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.console.visit import Console, Visitor
from segments.ledger import accounts, console_sessions, users
from segments.ledger import staff as members
from segments.ledger.console_sessions import ConsoleSession
from segments.ledger.database.engine import reading
from segments.ledger.users import account_of
from segments.model.role import Role


async def visitor_of(console: Console, request: web.Request) -> Visitor | None:
    """
    Return the person of a request's session.

    `None`: no session, or it has ended or waits for a code; the person or the account is switched
    off, or this port serves others.
    """
    token = console.cookie.read(request)
    if token is None:
        return None
    services = console.services
    now_s = services.now_s()
    async with reading(services.ledger) as conn:
        session = await console_sessions.find(conn, token, now_s=now_s)
        if session is None or session.proven_at_s is None:
            return None
        found = await _found(conn, session, token)
    if found is None:
        return None
    found = found._replace(roles=found.roles & console.roles)
    if not found.person.is_active or not found.roles:
        return None
    if console_sessions.is_due(session, now_s):
        async with services.ledger.begin() as conn:
            await console_sessions.see(conn, session, now_s=now_s)
    return found


async def _found(conn: AsyncConnection, session: ConsoleSession, token: str) -> Visitor | None:
    if session.staff_id is not None:
        member = await members.staff_of_id(conn, session.staff_id)
        if member is None:
            return None
        account_id = member.account_id
        desk_of = None if account_id is None else await accounts.account(conn, account_id)
        return Visitor(member, desk_of, member.roles, session, token)
    assert session.user_id is not None, "a session is of one person"
    user = await users.user_of_id(conn, session.user_id)
    account = None if user is None else await account_of(conn, user)
    if user is None or account is None:
        return None
    return Visitor(user, account, frozenset({Role.PARTNER}), session, token)
