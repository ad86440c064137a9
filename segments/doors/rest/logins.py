"""
Who has which password: the part of every door's login that must never be written twice.

A wrong username and a wrong password are answered alike, and take as long.
Failures are counted for all doors together, or each door would be another
chance to guess.
"""

from segments.doors.rest.access_tokens import account_of
from segments.doors.rest.problem import NotAuthenticated, Problem
from segments.doors.rest.services import Services
from segments.doors.rest.throttle import Limit, Throttle
from segments.ledger import users
from segments.ledger.database.engine import reading
from segments.ledger.users import Session

PER_USER_AND_ADDRESS = Limit(burst=5, per_s=1 / 30)
PER_USER = Limit(burst=50, per_s=1 / 10)
PER_ADDRESS = Limit(burst=100, per_s=1)


class Logins:
    """Lets users in, and slows down whoever guesses."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._failures = [
            Throttle(limit, services.clock_s)
            for limit in (PER_USER_AND_ADDRESS, PER_USER, PER_ADDRESS)
        ]

    async def begin_session(
        self, username: str, password: str, address: str, *, for_s: float
    ) -> Session:
        """
        Begin a session of whoever knows the password.

        Args:
            username: In any case.
            password: As given.
            address: Where it comes from.
            for_s: How long the session lasts if it is not refreshed.

        Raises:
            NotAuthenticated: No user of that name has that password.
            Problem: 429, after too many failures.
        """
        username = username.lower()
        names = (f"{address} {username}", username, address)
        self._check_patience(names)

        async with reading(self._services.ledger) as conn:
            user = await users.find_user(conn, username)
            account = None if user is None else await account_of(conn, user)
        may = user is not None and user.is_active and account is not None
        # Counted before it is checked, or many at once would all be the first.
        for throttle, name in zip(self._failures, names, strict=True):
            throttle.failed(name)
        verdict = await self._services.passwords.check(
            user.password_hash if user is not None and may else None, password
        )
        if user is None or not verdict.is_right:
            raise NotAuthenticated("no user of that name has that password", is_missing=False)
        for throttle, name in zip(self._failures, names, strict=True):
            throttle.forgive_one(name)
        self._failures[0].forgive(names[0])

        now_s = self._services.now_s()
        async with self._services.ledger.begin() as conn:
            if verdict.new_hash is not None:
                await users.renew_hash(conn, user, verdict.new_hash)
            return await users.begin_session(conn, user, now_s=now_s, expires_at_s=now_s + for_s)

    def _check_patience(self, names: tuple[str, ...]) -> None:
        wait_s = max(
            throttle.wait_s(name) for throttle, name in zip(self._failures, names, strict=True)
        )
        if wait_s:
            raise Problem(429, "too many failed logins; wait", headers={"Retry-After": str(wait_s)})
