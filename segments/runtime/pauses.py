import asyncio
from contextlib import suppress
from dataclasses import dataclass

_MAX_EXPONENT = 64
"""Far beyond any longest pause, well before a float overflows."""


async def wait_or_stop(stopping: asyncio.Event, for_s: float) -> None:
    """Wait this many seconds, or until told to stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), for_s)


@dataclass(frozen=True)
class Backoff:
    """Pauses after failures, ever longer up to a limit."""

    first_s: float
    longest_s: float
    factor: float = 2.0

    def after(self, failures: int) -> float:
        """Return the seconds to wait after this many failures in a row, at least 1."""
        exponent = min(max(failures, 1) - 1, _MAX_EXPONENT)
        return min(self.first_s * self.factor**exponent, self.longest_s)
