"""
The queue for password checks: short, and fair to addresses and to users.

A check takes a core for some tens of milliseconds, so an attacker could make others wait. The queue
has `MAX_WAITING` places:

    next            first, logins from a known address, where the user has logged in before;
                    then the login with the fewest ahead of it of its address or user; then
                    the oldest
    no place left   a login of the largest crowd, of an address or a user, is turned away for
                    a newcomer of a smaller crowd; else the newcomer is

So wrong passwords from an address, or for a user, wait for each other, and none delays a user at a
known address.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

AT_ONCE = 2
MAX_WAITING = 40
MAX_WAITING_OF_ONE = 10
AGAIN_AFTER_S = 2


class Crowded(Exception):
    """The queue is full; retry after `AGAIN_AFTER_S`."""


@dataclass(eq=False)
class _Waiting:
    """A waiting login; `turn` resolves at its turn, and fails if it is turned away."""

    source: str
    username: str
    is_known: bool
    turn: "asyncio.Future[None]"

    def is_like(self, other: "_Waiting") -> bool:

        if self.is_known:
            return other.is_known and self.username == other.username
        return not other.is_known and (
            self.source == other.source or self.username == other.username
        )


class HashingQueue:
    """A process's queue."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._waiting: list[_Waiting] = []  # the oldest first

    @asynccontextmanager
    async def turn(self, source: str, username: str, *, is_known: bool) -> AsyncIterator[None]:
        """
        Wait for a turn, and hold it for the length of the context.

        `source` is the login's address; `is_known`: the user has logged in from there before.

        Raises:
            Crowded: No place in the queue.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(
                _Waiting(source, username, is_known, asyncio.get_running_loop().create_future())
            )
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, newcomer: _Waiting) -> None:
        self._make_place_for(newcomer)
        self._waiting.append(newcomer)
        try:
            await newcomer.turn
        except asyncio.CancelledError:
            if newcomer in self._waiting:
                self._waiting.remove(newcomer)
            elif newcomer.turn.done() and not newcomer.turn.cancelled():
                self._pass_on()
            raise

    def _make_place_for(self, newcomer: _Waiting) -> None:
        crowd = self._crowd(newcomer) + 1
        if crowd > MAX_WAITING_OF_ONE:
            raise Crowded
        if len(self._waiting) < MAX_WAITING:
            return
        last = max(reversed(self._waiting), key=lambda each: (not each.is_known, self._crowd(each)))
        if (not newcomer.is_known, crowd) >= (not last.is_known, self._crowd(last)):
            raise Crowded
        self._waiting.remove(last)
        last.turn.set_exception(Crowded())

    def _crowd(self, one: _Waiting) -> int:
        return sum(one.is_like(each) for each in self._waiting)

    def _pass_on(self) -> None:

        if not self._waiting:
            self._free += 1
            return
        chosen = min(
            enumerate(self._waiting),
            key=lambda at: (
                not at[1].is_known,
                sum(at[1].is_like(each) for each in self._waiting[: at[0]]),
                at[0],
            ),
        )[1]
        self._waiting.remove(chosen)
        chosen.turn.set_result(None)
