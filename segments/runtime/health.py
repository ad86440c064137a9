"""
The answer of `/health/ready`, on every port of ours.

A process is ready while it can answer, so that a load balancer keeps sending; whether bids are
enriched is reported apart. Otherwise an absent store would take out all replicas at once, and with
them bids that could have passed through.
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
    A process's health.

    Attributes:
        unready: Why it can't answer, or has no data to answer from.
        passing: Why bids leave unchanged although it can answer.
        waiting: Work that waits for others, as further members; each is 0 while nothing waits.
        ill: Faults of a process that can answer.
    """

    unready: Sequence[str] = ()
    passing: Sequence[str] = ()
    waiting: Mapping[str, float] = _NOTHING
    ill: Sequence[str] = ()

    @property
    def is_ready(self) -> bool:
        """Whether the process can answer."""
        return not self.unready

    @property
    def is_enriching(self) -> bool:
        """Whether bids are enriched."""
        return not self.unready and not self.passing

    def answer(self, request: web.Request) -> web.Response:
        """
        Return 200 for a ready process, else 503.

        With `?strict` also 503 while bids pass through, work waits, or a fault exists.
        """
        is_ready, is_enriching = self.is_ready, self.is_enriching
        is_whole = is_enriching and not self.ill
        is_well = is_whole and not any(self.waiting.values())
        body: dict[str, Any] = {
            "status": "not_ready" if not is_ready else "ready" if is_whole else "degraded",
            "ready": is_ready,
            "version": _version(),
            "enriching": is_enriching,
            "reason": "; ".join([*self.unready, *self.passing, *self.ill]),
            **self.waiting,
        }
        is_wanted = is_well if "strict" in request.query else is_ready
        return web.json_response(body, status=200 if is_wanted else 503)


@cache
def _version() -> str:
    return version("rtb-segments")
