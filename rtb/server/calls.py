"""
gRPC calls on streams of HTTP/2: the ARTF door and the health service.

    .../...RTBExtensionPoint/GetMutations   a bid, in protobuf; answered with mutations
    /grpc.health.v1.Health/Check            our own state, as in readiness
    any other call                          UNIMPLEMENTED
    any other request                       a bid in JSON, as over HTTP/1.1

To hosts, every status except OK is a failure: circuit breakers open, and the reference host never
asks again. So every outcome of a bid is OK, with the call's id and any mutations. Other statuses
are for wrong set-up, found before the bid is read, and unreadable calls:

    INVALID_ARGUMENT      no protobuf, or not one message
    RESOURCE_EXHAUSTED    longer than `RTB_MAX_BODY_BYTES`, too slow, or one unfinished too many
    UNIMPLEMENTED         another method; an encoding other than gzip; no possible recipient
    UNAUTHENTICATED       no token, or not the recipient's
    PERMISSION_DENIED     no certificate, or not the recipient's

A call is a `Bid`: it waits, ends and is counted like a bid in JSON.
"""

from collections.abc import Callable
from typing import Final

from rtb.catalog import Catalog, Recipient
from rtb.openrtb.artf import ArtfReader, RtbRequest
from rtb.openrtb.mutations import MutationForm, metadata_of, rtb_response
from rtb.openrtb.request import Request
from rtb.outcome import MalformedRequest, Outcome, Reason
from rtb.pipeline import Question, Result
from rtb.server.access import refusal_of
from rtb.server.bids import Bid, Bids
from rtb.server.call_plans import CallOptions, Plan, Plans
from rtb.server.extra_headers import is_asked, line_of
from rtb.server.http.grpc import (
    ACCEPTED_ENCODINGS,
    INVALID_ARGUMENT,
    MEDIA_TYPE,
    OK_TRAILERS,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
    UnknownEncoding,
    error_head,
    framed,
    is_grpc,
    left_ms_of,
    unframed,
)
from rtb.server.http.http11 import REFUSAL_HEADS, BadEncoding, TooLarge, head_of
from rtb.server.http.request_heads import Head
from rtb.server.http.turn import Asker, Turn
from rtb.server.metrics.layout import Refusal, Where

_GET_MUTATIONS: Final = (b".RTBExtensionPoint/GetMutations", b"/RTBExtensionPoint/GetMutations")
"""Hosts place the service in different packages."""
_CHECK: Final = b"/grpc.health.v1.Health/Check"

_HEALTH_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n"
_SERVING: Final = framed(b"\x08\x01")
_NOT_SERVING: Final = framed(b"\x08\x02")

_ANSWERED: Final = 0
"""Of `layout.STATUSES`: HTTP's status is 200 whatever gRPC's status is."""

_REFUSED: Final = {
    refusal: error_head(status, Outcome.MALFORMED, refusal)
    for refusal, status in {
        Refusal.UNKNOWN_PATH: UNIMPLEMENTED,
        Refusal.BODY_TOO_LARGE: RESOURCE_EXHAUSTED,
        Refusal.TOO_SLOW: RESOURCE_EXHAUSTED,
        Refusal.TOO_MANY_UNFINISHED: RESOURCE_EXHAUSTED,
        Refusal.NO_TOKEN: UNAUTHENTICATED,
        Refusal.UNKNOWN_TOKEN: UNAUTHENTICATED,
        Refusal.OTHER_TOKEN: UNAUTHENTICATED,
        Refusal.NO_CERTIFICATE: PERMISSION_DENIED,
        Refusal.OTHER_CERTIFICATE: PERMISSION_DENIED,
    }.items()
}
_UNREAD: Final = {
    reason: error_head(INVALID_ARGUMENT, Outcome.MALFORMED, reason) for reason in Reason
}
_UNKNOWN_ENCODING: Final = error_head(
    UNIMPLEMENTED, Outcome.MALFORMED, Reason.BAD_ENCODING, ACCEPTED_ENCODINGS
)
_NO_CALL: Final = head_of(415, Outcome.MALFORMED, Refusal.CONTENT_TYPE)
_NOBODY: Final = head_of(200, Outcome.MALFORMED, Refusal.UNKNOWN_RECIPIENT, media_type=MEDIA_TYPE)


class Calls:
    """
    The shared state of a worker's calls.

    Args:
        bids: The worker's bids.
        ask_of: The pipeline's.
        options: The deployment's options.
        new_bid: Makes the turn of a request that is no call.
        is_serving: Tells whether the worker wants more calls.
    """

    __slots__ = ("_is_open", "_is_serving", "_new_bid", "_url", "ask_of", "bids", "plans", "read")

    def __init__(
        self,
        bids: Bids,
        ask_of: Callable[[Request, Recipient, Catalog], Question | Result],
        options: CallOptions,
        new_bid: Callable[[Asker, Head], Turn],
        is_serving: Callable[[], bool],
    ) -> None:
        self._new_bid = new_bid
        self._is_serving = is_serving
        self._is_open = options.is_open
        self._url = _GET_MUTATIONS[1]  # the last, and likely the next
        self.bids = bids
        self.ask_of = ask_of
        self.plans = Plans(bids, options)
        self.read = ArtfReader()

    def new_turn(self, asker: Asker, head: Head) -> Turn:
        """Make the turn of a stream's request."""
        url = head.url
        if url == self._url or url.endswith(_GET_MUTATIONS):
            self._url = url
            return self.new_call(asker, head) if self._is_open else UnknownCall(asker, head)
        if url == _CHECK:
            return HealthCheck(self._is_serving, asker, head)
        if is_grpc(head.headers.get(b"content-type", b"")):
            return UnknownCall(asker, head)
        return self._new_bid(asker, head)

    def new_call(self, asker: Asker, head: Head) -> Turn:
        """Make the turn of a call with a bid."""
        return ArtfBid(self, asker, head)


class UnknownCall(Turn):
    """A call of a method that we don't serve."""

    __slots__ = ()

    def begin(self, head: Head, body: bytes) -> None:
        """Answer UNIMPLEMENTED."""
        self.refuse(Refusal.UNKNOWN_PATH)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, in gRPC's status."""
        _refuse(self, refusal)


class HealthCheck(Turn):
    """A health check."""

    __slots__ = ("_is_serving",)

    def __init__(self, is_serving: Callable[[], bool], asker: Asker, head: Head) -> None:
        super().__init__(asker, head)
        self._is_serving = is_serving

    def begin(self, head: Head, body: bytes) -> None:
        """Answer with our state, whatever the service."""
        if _is_call(self, head):
            message = _SERVING if self._is_serving() else _NOT_SERVING
            self.answer_call(_HEALTH_HEAD, message, OK_TRAILERS)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, in gRPC's status."""
        _refuse(self, refusal)


class ArtfBid(Bid):
    """A bid request in a call of `GetMutations`."""

    __slots__ = ("_calls", "_id", "_plan", "_tells", "_whose")

    def __init__(self, calls: Calls, asker: Asker, head: Head) -> None:
        super().__init__(calls.bids, asker, head)
        self._calls = calls
        self._id: str | None = None
        self._plan: Plan | None = None
        self._tells = False
        self._route = calls.plans.nobody
        self._whose: Head | None = None
        """The head, if its credentials await the message."""

    def begin(self, head: Head, body: bytes) -> None:
        """Check the recipient, unless the message names it, and queue the bid for `ask_all`."""
        if not _is_call(self, head):
            return
        calls = self._calls
        self._tells = calls.plans.options.tells_reason and is_asked(head)
        if calls.plans.is_by_originator:
            self._whose = head
        else:
            self._plan = plan = calls.plans.plan_of(None)
            if plan is not None and not self._is_let_in(plan, head):
                return
        bids = self._bids
        self._began_s = bids.monotonic()
        self._body = body
        self._encoding = head.headers.get(b"grpc-encoding", b"")
        bids.will_ask(self)

    def ask(self) -> None:
        """Read the message, then as `Bid.ask`."""
        body, self._body = self._body, None
        if body is None:
            return  # the client has disconnected
        calls = self._calls
        asked: Question | Result | None
        try:
            call = calls.read(unframed(body, self._encoding, calls.plans.options.max_body_bytes))
            self._id = call.id
            asked = self._asked(call)
        except MalformedRequest as malformed:
            self._reject(malformed.reason)
        except BadEncoding:
            self._reject(Reason.BAD_ENCODING)
        except UnknownEncoding:
            self._count(Outcome.MALFORMED, Reason.BAD_ENCODING, _ANSWERED)
            self.answer_call(_UNKNOWN_ENCODING, b"", b"")
        except TooLarge:
            self.refuse(Refusal.BODY_TOO_LARGE)
        except Exception as bug:  # noqa: BLE001 - a bug costs only this request
            self._bids.on_bug(Where.ASK, bug)
            self._finish(Result(b"", Outcome.NO_MATCH, Reason.FAULT))
        else:
            if isinstance(asked, Question):
                self._wait(asked)
            elif asked is not None:
                self._finish(asked)

    def _asked(self, call: RtbRequest) -> Question | Result | None:
        """Return the question or the result; `None`: the call has been answered."""
        calls = self._calls
        head = self._whose
        if head is not None:
            self._plan = whose = calls.plans.plan_of(call.originator)
            if whose is not None and not self._is_let_in(whose, head):
                return None
        plan = self._plan
        if plan is None:
            self.connection.note_refusal(Refusal.UNKNOWN_RECIPIENT)
            self.answer_call(_NOBODY, framed(self._response(None)), OK_TRAILERS)
            return None
        if not call.wants_segments:
            return Result(b"", Outcome.NO_MATCH, Reason.NOT_WANTED)
        if call.bid_request is None:
            return Result(b"", Outcome.MALFORMED, Reason.NOT_A_BID_REQUEST)
        return calls.ask_of(call.bid_request, plan.route.recipient, self._bids.catalog)

    def _is_let_in(self, plan: Plan, head: Head) -> bool:
        self._route = plan.route
        access = plan.route.recipient.access
        refusal = None if access is None else refusal_of(access, head, self.connection)
        if refusal is not None:
            self.refuse(refusal)
        return refusal is None

    def left_ms(self, question: Question) -> float:
        """See `Bid`; a call may set an earlier deadline."""
        return min(super().left_ms(question), left_ms_of(self.connection.call_timeout))

    def render(self) -> None:
        """Write the answer's head and message."""
        result = self._result
        try:
            body = framed(self._response(result))
        except Exception as bug:  # noqa: BLE001 - a bug costs only this request
            self._bids.on_bug(Where.FORM, bug)
            result = Result(b"", Outcome.NO_MATCH, Reason.FAULT)
            body = framed(self._response(None))
        self._count(result.outcome, result.reason, _ANSWERED)
        self._body = body
        self._head = self._route.form.heads[result.outcome]

    def leave(self) -> None:
        """See `Bid`."""
        body, self._body = self._body, None
        self.forget()
        self.answer_call(self._head, body or b"", OK_TRAILERS)

    def _response(self, result: Result | None) -> bytes:
        plan = self._plan
        additions = None if result is None else result.additions
        if plan is None:
            return rtb_response(self._id, None, _NO_FORM, metadata_of(0))
        return rtb_response(self._id, additions, plan.form, plan.metadata)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, in gRPC's status."""
        _refuse(self, refusal)

    def _reject(self, reason: Reason) -> None:
        self._count(Outcome.MALFORMED, reason, _ANSWERED)
        self.answer_call(_UNREAD[reason], b"", b"")

    def _count(self, outcome: Outcome, reason: Reason, status: int) -> None:
        super()._count(outcome, reason, status)
        if self._bids.age_line:
            self.extra += self._bids.age_line
        if self._tells:
            self.extra += line_of(reason)


_NO_FORM: Final = MutationForm(names_partner=False, one_each=False)


def _is_call(turn: Turn, head: Head) -> bool:
    """Tell whether a request at a path of gRPC is a call; else refuse it."""
    if head.method == b"POST" and is_grpc(head.headers.get(b"content-type", b"")):
        return True
    turn.connection.note_refusal(Refusal.CONTENT_TYPE)
    turn.answer(_NO_CALL, b"")
    return False


def _refuse(turn: Turn, refusal: Refusal) -> None:
    turn.connection.note_refusal(refusal)
    head = _REFUSED.get(refusal)
    if head is None:  # gRPC has no status for it
        turn.answer(REFUSAL_HEADS[refusal], b"")
    else:
        turn.answer_call(head, b"", b"")
