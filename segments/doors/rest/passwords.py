"""
Passwords: argon2id, off the event loop, a few at a time.

Each check takes 64 MiB and some tens of milliseconds on purpose. Unbounded, a
burst of logins would be the end of the process's memory; so there is a queue.
Whoever names a user that does not exist waits as long as everybody else, or the
time of an answer would tell which usernames there are.
"""

import asyncio
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from segments.model.refusal import Refusal

MIN_CHARS = 12
MAX_CHARS = 1024
_AT_ONCE = 2


class Verdict(NamedTuple):
    """What came of a check; `new_hash` replaces a hash of older parameters."""

    is_right: bool
    new_hash: str | None = None


class Passwords:
    """
    Makes and checks the hashes of passwords.

    Args:
        hasher: How dear a guess is; the library's own advice, unless somebody knows better.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """
        Return what to keep of a password.

        Raises:
            Refusal: It is too short to resist guessing, or absurdly long.
        """
        if not MIN_CHARS <= len(password) <= MAX_CHARS:
            raise Refusal(f"a password of {MIN_CHARS} to {MAX_CHARS} characters, please")
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password.encode())

    async def check(self, password_hash: str | None, password: str) -> Verdict:
        """
        Tell whether a password is the one that a hash was made of.

        Args:
            password_hash: `None`, if there is no such user: takes as long, and is wrong.
            password: As given.
        """
        async with self._turns:
            return await asyncio.to_thread(self._check, password_hash, password.encode())

    def _check(self, password_hash: str | None, password: bytes) -> Verdict:
        try:
            self._hasher.verify(password_hash or self._nobody(), password)
        except (VerificationError, InvalidHashError):
            return Verdict(False)
        if password_hash is None:
            return Verdict(False)
        is_old = self._hasher.check_needs_rehash(password_hash)
        return Verdict(True, self._hasher.hash(password) if is_old else None)

    def _nobody(self) -> str:
        if self._nobodys is None:
            self._nobodys = self._hasher.hash(b"nobody's")
        return self._nobodys
