"""
One bid in some, with the time of each of its stages noted for a trace.

    decode     the body, to the fields that we read
    consent    strip, identify, and what the request itself permits
    lookup     from the question to the store's reply, or to the deadline
    inject     opt-outs, segments, and the answer in its form

Without tracing a worker makes its bids as ever, and imports none of this. With it, `Sampling`
makes them, and of every `every` one is a `TracedBid`: the others cost a count more. Which bid it
is depends on nothing in the bid. Calls of gRPC are not traced.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from rtb.catalog import Catalog, Recipient
from rtb.lookup.link import Found, LookupFault
from rtb.outcome import Outcome, Reason
from rtb.pipeline import Pipeline, Question, Result
from rtb.server.bids import Bid, Bids
from rtb.server.extra_headers import TellingBid
from rtb.server.http.request_heads import Head
from rtb.server.http.turn import Asker


class Times(NamedTuple):
    """
    A bid with the times of its stages, monotonic; 0: not reached.

    No part of the request but its trace context.
    """

    traceparent: bytes
    tracestate: bytes
    recipient: str
    outcome: Outcome
    reason: Reason
    began_s: float
    asking_s: float
    decoded_s: float
    consented_s: float
    asked_s: float
    found_s: float
    concluded_s: float
    ended_s: float


class Sampling:
    """
    Makes a worker's bids.

    Args:
        new_bid: Makes an ordinary bid.
        new_traced: Makes a traced one.
        every: At least 1: of so many bids the last is traced.
    """

    __slots__ = ("_every", "_left", "_new_bid", "_new_traced")

    def __init__(
        self,
        new_bid: Callable[[Asker, Head], Bid],
        new_traced: Callable[[Asker, Head], Bid],
        every: int,
    ) -> None:
        self._new_bid = new_bid
        self._new_traced = new_traced
        self._every = every
        self._left = every

    def __call__(self, connection: Asker, head: Head) -> Bid:
        """Make the next bid."""
        self._left -= 1
        if self._left:
            return self._new_bid(connection, head)
        self._left = self._every
        return self._new_traced(connection, head)


class TracedBid(TellingBid):
    """A bid request that notes when each of its stages ended."""

    __slots__ = (
        "_asking_s",
        "_concluded_s",
        "_emit",
        "_found_s",
        "_pipeline",
        "_traceparent",
        "_tracestate",
        "consented_s",
        "decoded_s",
    )

    _traceparent: bytes
    _tracestate: bytes

    def __init__(
        self,
        bids: Bids,
        pipeline: Pipeline,
        emit: Callable[[Times], None],
        connection: Asker,
        head: Head,
    ) -> None:
        super().__init__(bids, connection, head)
        self._pipeline = pipeline
        self._emit = emit
        self._asking_s = 0.0
        self._found_s = 0.0
        self._concluded_s = 0.0
        self.decoded_s = 0.0
        self.consented_s = 0.0

    def begin(self, head: Head, body: bytes) -> None:
        """Keep the trace context of the request."""
        self._traceparent = head.header(b"traceparent")
        self._tracestate = head.header(b"tracestate")
        super().begin(head, body)

    def ask(self) -> None:
        """Do every stage before the store, through a pipeline that notes the times."""
        route = self._route
        self._route = route._replace(pipeline=_Noting(route.pipeline or self._pipeline, self))
        self._asking_s = self._bids.monotonic()
        super().ask()

    def on_found(self, found: Found | LookupFault) -> None:
        """Note when the store has replied."""
        self._found_s = self._bids.monotonic()
        super().on_found(found)

    def conclude(self, now_s: float) -> bool:
        """Note when the result was begun."""
        self._concluded_s = now_s
        return super().conclude(now_s)

    def _count(self, outcome: Outcome, reason: Reason, status: int) -> None:
        super()._count(outcome, reason, status)
        has_asked = self._found_s or outcome is Outcome.OUT_OF_TIME
        self._emit(
            Times(
                self._traceparent,
                self._tracestate,
                self._route.recipient.name or "",
                outcome,
                reason,
                self._began_s,
                self._asking_s,
                self.decoded_s,
                self.consented_s,
                self.asked_s if has_asked else 0.0,
                self._found_s,
                self._concluded_s,
                self._bids.monotonic(),
            )
        )


class _Noting(Pipeline):
    """A pipeline that does the stages of another one, and notes their ends."""

    def __init__(self, pipeline: Pipeline, bid: TracedBid) -> None:
        # Not super's: it has no stages of its own.
        self._pipeline = pipeline
        self._bid = bid

    def ask(self, body: bytes, recipient: Recipient, catalog: Catalog) -> Question | Result:
        """See `Pipeline.ask`."""
        request = self._pipeline.request_of(body)
        self._bid.decoded_s = time.monotonic()
        asked = self._pipeline.ask_of(request, recipient, catalog)
        self._bid.consented_s = time.monotonic()
        return asked
