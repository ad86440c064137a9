"""
Why did this one request end so? A header for those who integrate, off by default.

    X-Enrich-Debug: 1                 of the request
    X-Enrich-Reason: tcf_no_vendor    of the answer, where its ending has a reason

A word of the closed list, never what stood in the request. It is a turn of its own
kind, chosen when the worker starts, so that the usual one does not even ask.
"""

from rtb.outcome import Outcome, Reason
from rtb.server.bids import Bid
from rtb.server.http.request_heads import Head

_LINES = {reason: b"X-Enrich-Reason: %b\r\n" % reason.encode() for reason in Reason if reason}


class DebugBid(Bid):
    """A bid request that tells its reason if asked to."""

    __slots__ = ("_tells",)

    _tells: bool

    def begin(self, head: Head, body: bytes) -> None:
        """Note whether it is asked."""
        self._tells = head.header(b"x-enrich-debug").strip() == b"1"
        super().begin(head, body)

    def _count(self, outcome: Outcome, reason: Reason) -> None:
        super()._count(outcome, reason)
        if self._tells:
            self.extra += _LINES.get(reason, b"")
