"""
Bids with the time of each stage, for a trace.

    decode     the body, to the fields that we read
    consent    strip, identify, and what the request itself permits
    lookup     from the question to the store's reply, or to the deadline
    inject     opt-outs, segments, and the answer in its form

Without tracing, a worker imports none of this. With tracing, one bid in `every` is a `TracedBid`,
or a `TracedCall` if it came by gRPC; each other bid costs a count more. The choice depends on
nothing in the bid.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from rtb.catalog import Catalog, Recipient
from rtb.lookup.link import Found, LookupFault
from rtb.openrtb.artf import RtbRequest
from rtb.openrtb.request import Request
from rtb.outcome import Outcome, Reason
from rtb.pipeline import Pipeline, Question, Result
from rtb.server.bids import Bid, Bids
from rtb.server.call_plans import CallOptions
from rtb.server.calls import ArtfBid, Calls
from rtb.server.extra_headers import TellingBid
from rtb.server.http.request_heads import Head
from rtb.server.http.turn import Asker, Turn


class Times(NamedTuple):
    """
    The times of a bid's stages, monotonic; 0: not reached.

    Of the request only the trace context is kept.
    """

    is_call: bool  # of gRPC

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
    Picks the bids of a worker that are traced.

    Args:
        every: At least 1; the last of this many bids is traced.
    """

    __slots__ = ("_every", "_left")

    def __init__(self, every: int) -> None:
        self._every = every
        self._left = every

    def picks(self) -> bool:
        """Tell whether the next bid is traced."""
        self._left -= 1
        if self._left:
            return False
        self._left = self._every
        return True


class SampledBids:
    """
    Makes a worker's bids.

    Args:
        sampling: Of the worker.
        new_bid: Makes an ordinary bid.
        new_traced: Makes a traced bid.
    """

    __slots__ = ("_new_bid", "_new_traced", "_sampling")

    def __init__(
        self,
        sampling: Sampling,
        new_bid: Callable[[Asker, Head], Bid],
        new_traced: Callable[[Asker, Head], Bid],
    ) -> None:
        self._sampling = sampling
        self._new_bid = new_bid
        self._new_traced = new_traced

    def __call__(self, connection: Asker, head: Head) -> Bid:
        """Make the next bid."""
        if self._sampling.picks():
            return self._new_traced(connection, head)
        return self._new_bid(connection, head)


class SampledCalls(Calls):
    """
    The shared state of a worker's calls, some of which are traced.

    Args:
        sampling: Of the worker.
        emit: Takes the times of a traced call.
        bids: This and the following arguments: see `Calls`.
    """

    __slots__ = ("_emit", "_sampling")

    def __init__(
        self,
        sampling: Sampling,
        emit: Callable[[Times], None],
        bids: Bids,
        ask_of: Callable[[Request, Recipient, Catalog], Question | Result],
        options: CallOptions,
        new_bid: Callable[[Asker, Head], Turn],
        is_serving: Callable[[], bool],
    ) -> None:
        super().__init__(bids, ask_of, options, new_bid, is_serving)
        self._sampling = sampling
        self._emit = emit

    def new_call(self, asker: Asker, head: Head) -> Turn:
        """Make the next call."""
        if self._sampling.picks():
            return TracedCall(self, self._emit, asker, head)
        return super().new_call(asker, head)


class _Stopwatch:
    """Notes the times of a bid's stages; see `Times`."""

    __slots__ = (
        "_emit",
        "_traceparent",
        "_tracestate",
        "asking_s",
        "concluded_s",
        "consented_s",
        "decoded_s",
        "found_s",
    )

    def __init__(self, emit: Callable[[Times], None], head: Head) -> None:
        self._emit = emit
        self._traceparent = head.header(b"traceparent")
        self._tracestate = head.header(b"tracestate")
        self.asking_s = 0.0
        self.decoded_s = 0.0
        self.consented_s = 0.0
        self.found_s = 0.0
        self.concluded_s = 0.0

    def emit(
        self,
        bid: Bid,
        recipient: Recipient,
        outcome: Outcome,
        reason: Reason,
        began_s: float,
        *,
        is_call: bool,
    ) -> None:
        """Hand over the times of a bid that has its outcome."""
        has_asked = self.found_s or outcome is Outcome.OUT_OF_TIME
        self._emit(
            Times(
                is_call,
                self._traceparent,
                self._tracestate,
                recipient.name or "",
                outcome,
                reason,
                began_s,
                self.asking_s,
                self.decoded_s,
                self.consented_s,
                bid.asked_s if has_asked else 0.0,
                self.found_s,
                self.concluded_s,
                time.monotonic(),
            )
        )


class TracedBid(TellingBid):
    """A bid request that notes when each of its stages ended."""

    __slots__ = ("_pipeline", "_stopwatch")

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
        self._stopwatch = _Stopwatch(emit, head)

    def ask(self) -> None:
        """Do every stage before the store, through a pipeline that notes the times."""
        route, stopwatch = self._route, self._stopwatch
        self._route = route._replace(pipeline=_Noting(route.pipeline or self._pipeline, stopwatch))
        stopwatch.asking_s = time.monotonic()
        super().ask()

    def on_found(self, found: Found | LookupFault) -> None:
        """Note when the store has replied."""
        self._stopwatch.found_s = time.monotonic()
        super().on_found(found)

    def conclude(self, now_s: float) -> bool:
        """Note when the result was begun."""
        self._stopwatch.concluded_s = now_s
        return super().conclude(now_s)

    def _count(self, outcome: Outcome, reason: Reason, status: int) -> None:
        super()._count(outcome, reason, status)
        recipient = self._route.recipient
        self._stopwatch.emit(self, recipient, outcome, reason, self._began_s, is_call=False)


class TracedCall(ArtfBid):
    """A bid request in a call that notes when each of its stages ended."""

    __slots__ = ("_stopwatch",)

    def __init__(
        self, calls: Calls, emit: Callable[[Times], None], asker: Asker, head: Head
    ) -> None:
        super().__init__(calls, asker, head)
        self._stopwatch = _Stopwatch(emit, head)

    def ask(self) -> None:
        """Note when the message is read."""
        self._stopwatch.asking_s = time.monotonic()
        super().ask()

    def _asked(self, call: RtbRequest) -> Question | Result | None:
        self._stopwatch.decoded_s = time.monotonic()
        asked = super()._asked(call)
        self._stopwatch.consented_s = time.monotonic()
        return asked

    def on_found(self, found: Found | LookupFault) -> None:
        """Note when the store has replied."""
        self._stopwatch.found_s = time.monotonic()
        super().on_found(found)

    def conclude(self, now_s: float) -> bool:
        """Note when the result was begun."""
        self._stopwatch.concluded_s = now_s
        return super().conclude(now_s)

    def _count(self, outcome: Outcome, reason: Reason, status: int) -> None:
        super()._count(outcome, reason, status)
        recipient = self._route.recipient
        self._stopwatch.emit(self, recipient, outcome, reason, self._began_s, is_call=True)


class _Noting(Pipeline):
    """A pipeline that runs another pipeline's stages, and notes their ends."""

    def __init__(self, pipeline: Pipeline, stopwatch: _Stopwatch) -> None:
        # Not super's: it has no stages of its own.
        self._pipeline = pipeline
        self._stopwatch = stopwatch

    def ask(self, body: bytes, recipient: Recipient, catalog: Catalog) -> Question | Result:
        """See `Pipeline.ask`."""
        request = self._pipeline.request_of(body)
        self._stopwatch.decoded_s = time.monotonic()
        asked = self._pipeline.ask_of(request, recipient, catalog)
        self._stopwatch.consented_s = time.monotonic()
        return asked
