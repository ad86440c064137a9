"""
Passwords: argon2id, off the event loop, a few at a time.

Each check takes 64 MiB and some tens of milliseconds by design, so checks are queued
(`segments.doors.rest.hashing_queue`). An unknown user's takes as long, or response times would
reveal usernames.
"""

import asyncio
import secrets
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from segments.doors.rest.hashing_queue import HashingQueue
from segments.model.refusal import Refusal

MIN_CHARS = 12
MAX_CHARS = 1024
_DRAWN_BYTES = 15  # 20 characters


def drawn_password() -> str:
    """Generate a password that another person hands over to its user."""
    return secrets.token_urlsafe(_DRAWN_BYTES)


class Verdict(NamedTuple):
    """The result of a check; `new_hash` replaces a hash of outdated parameters."""

    is_right: bool
    new_hash: str | None = None


class Passwords:
    """
    Makes and checks password hashes.

    Args:
        hasher: Sets the cost of a guess; by default the library's recommended parameters.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._queue = HashingQueue()
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """
        Return the hash to store for a password.

        Raises:
            Refusal: Too short to resist guessing, or absurdly long.
        """
        if not MIN_CHARS <= len(password) <= MAX_CHARS:
            raise Refusal(f"a password of {MIN_CHARS} to {MAX_CHARS} characters, please")
        return await asyncio.to_thread(self._hasher.hash, password.encode())

    def turn(
        self, source: str, username: str, *, is_known: bool
    ) -> AbstractAsyncContextManager[None]:
        """Wait for a turn to check a password; see `HashingQueue.turn`."""
        return self._queue.turn(source, username, is_known=is_known)

    async def check(self, password_hash: str | None, password: str) -> Verdict:
        """
        Check a password against a hash; call it during a turn.

        `password_hash` is `None` for an unknown user: takes as long, and fails.
        """
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
