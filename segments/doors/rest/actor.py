"""The caller of an operation as the actor of its acts."""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By
from segments.doors.rest.auth import Caller
from segments.ledger import users
from segments.ledger.privacy.audit import Actor, Who


async def by(conn: AsyncConnection, caller: Caller, now_s: float) -> By:
    """Return the actor of a caller's acts: the user, by name as at the console."""
    user = await users.user_of_public_id(conn, caller.who)
    name = caller.who if user is None else user.username
    return By(Who(Actor.USER, name, caller.account.id), now_s)
