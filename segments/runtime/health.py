"""
What `/health/ready` says, on every port of ours.

Ready is a process that can answer, so that a load balancer goes on sending; whether bids are
enriched meanwhile is a second word. A store that is away would otherwise take every replica
out at once, and the bids of an exchange with them, which could have passed through.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiohttp import web

_NOTHING: Final[Mapping[str, float]] = MappingProxyType({})


class Health(NamedTuple):
    """
    How a process is.

    Attributes:
        unready: Why it can't answer, or has nothing to answer by; empty if it can.
        passing: Why bids leave as they came, though it can; empty if they are enriched.
        waiting: What waits for others, as further members; each is 0 while nothing does.
    """

    unready: Sequence[str] = ()
    passing: Sequence[str] = ()
    waiting: Mapping[str, float] = _NOTHING

    @property
    def is_ready(self) -> bool:
        """Whether it can answer."""
        return not self.unready

    @property
    def is_enriching(self) -> bool:
        """Whether it can, and bids are enriched."""
        return not self.unready and not self.passing

    def answer(self, request: web.Request) -> web.Response:
        """
        Return 200 for a process that is ready, else 503.

        With `?strict` 503 as well while bids pass through, or something waits.
        """
        is_ready, is_enriching = self.is_ready, self.is_enriching
        is_well = is_enriching and not any(self.waiting.values())
        body: dict[str, Any] = {
            "status": "not_ready" if not is_ready else "ready" if is_enriching else "degraded",
            "ready": is_ready,
            "version": _version(),
            "enriching": is_enriching,
            "reason": "; ".join([*self.unready, *self.passing]),
            **self.waiting,
        }
        is_wanted = is_well if "strict" in request.query else is_ready
        return web.json_response(body, status=200 if is_wanted else 503)


@cache
def _version() -> str:
    return version("rtb-segments")
