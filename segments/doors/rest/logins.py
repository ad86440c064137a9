"""
Password logins, shared by all doors.

A wrong username and a wrong password get the same answer after the same time. All doors and
replicas share the counts of failures:

    per user and address   5, and another every 30 s
    per user               50, and another 50 an hour: OWASP ASVS 2.2.1 allows 100
    per address            100, and another every second

By user alone, a stranger could lock a user out; by address alone, a thousand machines could guess
in parallel. At an address where the user has logged in within `KNOWN_FOR_S`, only the first line
applies, so others can't lock the user out there.

A full bucket refuses even the right password. A login is counted before its check, or concurrent
guesses would all pass, and only in its turn, so that the ledger's writes are as slow as checks.
"""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.rest.failure_counts import Counted, FailureCounts
from segments.doors.rest.hashing_queue import AGAIN_AFTER_S, Crowded
from segments.doors.rest.problem import NotAuthenticated, Problem
from segments.doors.rest.services import Services
from segments.ledger import throttles, users
from segments.ledger.database.engine import reading
from segments.ledger.users import Session, account_of
from segments.model.day import S_PER_DAY
from segments.model.limit import Limit

PER_USER_AND_ADDRESS = Limit(burst=5, per_s=1 / 30)
PER_USER = Limit(burst=50, per_s=50 / 3600)
PER_ADDRESS = Limit(burst=100, per_s=1)
KNOWN_FOR_S = 90.0 * S_PER_DAY

_KNOWN = "known_address"
_DRAWN = (
    "this password was made for you, and others may have seen it: log in to the console, choose"
    " one of your own, and log in here with that"
)


class Proof(NamedTuple):
    """A password that was right."""

    counted: tuple[Counted, ...]
    new_hash: str | None  # replaces a hash of outdated parameters


class Guesses:
    """Checks passwords, and slows down guesses."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._failures = FailureCounts(services.ledger)

    async def check(
        self, username: str, password: str, source: str, password_hash: str | None
    ) -> Proof | None:
        """
        Check a password; `settle` must follow a proof, in the login's transaction.

        `username` is in lower case, `source` from `Services.source_of`; `password_hash`: `None` for
        no user: takes as long, and fails.

        Raises:
            Problem: 429: too many failures, or too many logins at once.

        Returns:
            `None`: wrong.
        """
        both = f"{source} {username}"
        async with reading(self._services.ledger) as conn:
            is_known = await throttles.is_remembered(
                conn, _KNOWN, both, now_s=self._services.now_s()
            )
        counted = [Counted("login", both, PER_USER_AND_ADDRESS)]
        if not is_known:
            counted += [
                Counted("login_user", username, PER_USER),
                Counted("login_address", source, PER_ADDRESS),
            ]
        _check_patience(self._failures.wait_s(counted, self._services.now_s()))
        try:
            async with self._services.passwords.turn(source, username, is_known=is_known):
                _check_patience(await self._failures.count(counted, self._services.now_s()))
                verdict = await self._services.passwords.check(password_hash, password)
        except Crowded:
            raise Problem(
                429, "too many logins at once; wait", headers={"Retry-After": str(AGAIN_AFTER_S)}
            ) from None
        return Proof(tuple(counted), verdict.new_hash) if verdict.is_right else None

    async def settle(self, conn: AsyncConnection, proof: Proof) -> None:
        """Undo the count of a login that was right, and remember its address."""
        await self._failures.take_back(conn, proof.counted[1:])
        await throttles.forget(conn, *proof.counted[0][:2])
        until_s = self._services.now_s() + KNOWN_FOR_S
        await throttles.remember(conn, _KNOWN, proof.counted[0].name, until_s=until_s)


class Logins:
    """Logs users in to the REST doors."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._guesses = Guesses(services)

    async def begin_session(
        self, username: str, password: str, source: str, *, for_s: float
    ) -> Session:
        """
        Begin a session, after a check of the password.

        `username` is in any case, `source` from `Services.source_of`; `for_s`: lifetime of the
        session unless refreshed.

        Raises:
            NotAuthenticated: No user of that name has that password.
            Problem: 403: the password is right, but was generated; the user must first replace it
                in the console. 429: too many failures, or too many logins at once.
        """
        async with reading(self._services.ledger) as conn:
            user = await users.find_user(conn, username)
            account = None if user is None else await account_of(conn, user)
        may = user is not None and user.is_active and account is not None
        proof = await self._guesses.check(
            username.lower(),
            password,
            source,
            user.password_hash if user is not None and may else None,
        )
        if user is None or proof is None:
            raise NotAuthenticated("no user of that name has that password", is_missing=False)
        now_s = self._services.now_s()
        async with self._services.ledger.begin() as conn:
            await self._guesses.settle(conn, proof)
            if proof.new_hash is not None:
                await users.renew_hash(conn, user, proof.new_hash)
            if not user.must_change:
                until_s = now_s + for_s
                return await users.begin_session(conn, user, now_s=now_s, expires_at_s=until_s)
        raise Problem(403, _DRAWN, errorCode="PASSWORD_MUST_CHANGE")


def _check_patience(wait_s: int) -> None:
    if wait_s:
        raise Problem(429, "too many failed logins; wait", headers={"Retry-After": str(wait_s)})
