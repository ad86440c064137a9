"""
Further headers of answers, both off by default.

    X-Enrich-Debug: 1                 in the request
    X-Enrich-Reason: tcf_no_vendor    in its answer, if the outcome has a reason
    X-Enrich-Data-Age: 4              in every answer of a pod that follows: seconds, rounded up

The reason is of a closed list, never the request's content. The age is that at the worker's last
beat, a quarter of a second ago at most; without data there is none. The headers have their own
class of turn, chosen at the worker's start: ordinary turns do not check.
"""

from math import ceil, isfinite

from rtb.outcome import Outcome, Reason
from rtb.server.bids import Bid
from rtb.server.http.request_heads import Head

_LINES = {reason: b"X-Enrich-Reason: %b\r\n" % reason.encode() for reason in Reason if reason}


def age_line_of(age_s: float) -> bytes:
    """Return the header line for an age; empty for an infinite one."""
    return b"X-Enrich-Data-Age: %d\r\n" % ceil(age_s) if isfinite(age_s) else b""


def is_asked(head: Head) -> bool:
    """Tell whether a request asks for the header."""
    return head.header(b"x-enrich-debug").strip() == b"1"


def line_of(reason: Reason) -> bytes:
    """Return the header line for a reason; empty if there is none."""
    return _LINES.get(reason, b"")


class TellingBid(Bid):
    """A bid request that reports its reason on demand, and the age of the data."""

    __slots__ = ("_tells",)

    _tells: bool

    def begin(self, head: Head, body: bytes) -> None:
        """Record whether the request asks for its reason."""
        self._tells = self._bids.options.tells_reason and is_asked(head)
        super().begin(head, body)

    def _count(self, outcome: Outcome, reason: Reason, status: int) -> None:
        super()._count(outcome, reason, status)
        self.extra += self._bids.age_line
        if self._tells:
            self.extra += line_of(reason)
