"""
Bid requests on the listener: where HTTP, the pipeline and the store's link meet.

    client       begin                            as each request is read
    Bids         ask_all      pipeline.ask x n    once a turn of the event loop
                              one write to the store
    store        on_found                         as each reply is read
    Bids         answer_all   pipeline.answer x n, form x n, write x n
    deadline     expire       unenriched          if the store's reply is late

The first to end a bid wins. A bug of ours is counted, and costs a request only its segments.

Bids of a turn go through each stage together, as the code of all stages exceeds the processor's
first-level cache. Measured in process, a bid in a turn of sixteen costs a quarter less than alone.
A single bid does not wait.
"""

import time
from collections.abc import Callable, Mapping, Set
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from httptools import HttpParserInvalidURLError, parse_url

from rtb.catalog import Catalog, Recipient
from rtb.deadline import deadline_ms
from rtb.lookup.link import Found, LookupFault
from rtb.lookup.lookup import Lookup
from rtb.openrtb import targeting
from rtb.outcome import MalformedRequest, Outcome, OutcomeHeader, Reason
from rtb.pipeline import Pipeline, Question, Result
from rtb.server.access import refusal_of
from rtb.server.answer_forms import FORMS, Asked, Form
from rtb.server.deadline_timer import Deadlines
from rtb.server.http.http11 import GZIP_MAGIC, BadEncoding, TooLarge, head_of, unfold
from rtb.server.http.request_heads import Head
from rtb.server.http.turn import Asker, Turn
from rtb.server.metrics.layout import PROTOCOLS, Refusal, Where, timings_of
from rtb.server.metrics.shared_counters import SharedCounters
from segments.model.catalog import CatalogSnapshot

if TYPE_CHECKING:
    from rtb.server.probes import Probes
    from rtb.server.seen_recorder import SeenRecorder

MS_PER_S: Final = 1000
_MAX_ROUTES: Final = 4096

_MALFORMED: Final = {reason: head_of(400, Outcome.MALFORMED, reason) for reason in Reason}

_NOT_REMEMBERED: Final = (Outcome.OPTED_OUT, Outcome.STORE_DOWN)
"""Outcomes of persons with an opt-out, or with unknown opt-outs."""

_FAULT_TO_REASON: Final = {
    fault: Reason(fault.value) for fault in LookupFault if fault.value in set(Reason)
}
"""Faults of a reachable store, silent or not trusted. Others are only counted as faults."""

_TARGETING: Final = Asked.TARGETING

_LEFT: Final = Result(b"", Outcome.NO_MATCH)
"""Replaces an answered bid's result."""

_NOTHING_KNOWN: Final = CatalogSnapshot(0, (), (), ())
_NO_OTHERS: Final[Mapping[Asked, Pipeline]] = {}


class BidOptions(NamedTuple):
    """A deployment's decisions about the edge; see `rtb.settings`."""

    deadline_cap_ms: float
    tmax_share: float
    max_in_flight: int
    max_body_bytes: int
    allow_unnamed_recipient: bool
    default_recipient: str | None
    outcome_header: OutcomeHeader
    tells_reason: bool = False
    targeting_recipients: Set[str] = frozenset()


_OK, _NOTHING, _BAD = range(3)
"""Indexes of `layout.STATUSES`, under which an answer's time is counted."""

_GZIP_QUERY: Final = b"gzip=1"
"""In the URL of a host that can't set a header for gzip."""


class Route(NamedTuple):
    """The target of a URL, under the catalog in force."""

    form: Form
    recipient: Recipient
    cells: int  # the counters of the recipient's requests
    timings: tuple[int, int, int]  # the histograms of their times: see _OK, _NOTHING, _BAD
    http2_timings: tuple[int, int, int]
    says_gzip: bool  # whether a body may be gzip without a header that says so
    pipeline: Pipeline | None  # `None`: for bid requests
    tmax_share: float


class Bids:
    """
    The shared state of a worker's bids.

    Args:
        pipeline: For bid requests.
        others: For other questions; without a pipeline, a kind has no forms.
        on_bug: Called with a bug's place and exception.
        call_soon: The event loop's.
        flush: Called after a turn's bids, to write held answers.
    """

    __slots__ = (
        "_answering",
        "_asking",
        "_call_soon",
        "_flush",
        "_forms",
        "_guarded",
        "_others",
        "_targeting",
        "age_line",
        "answer",
        "ask",
        "catalog",
        "catalog_until_s",
        "counters",
        "deadlines",
        "in_flight",
        "is_blind",
        "lookup",
        "monotonic",
        "on_bug",
        "options",
        "probes",
        "routes",
        "seen",
        "wall_s",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        lookup: Lookup,
        deadlines: Deadlines,
        counters: SharedCounters,
        *,
        options: BidOptions,
        others: Mapping[Asked, Pipeline] = _NO_OTHERS,
        on_bug: Callable[[Where, Exception], None],
        call_soon: Callable[[Callable[[], None]], object],
        flush: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asking: list[Bid] = []
        self._answering: list[Bid] = []
        self._call_soon = call_soon
        self._flush = flush
        self._others = others
        self._forms = {
            path: form
            for path, form in FORMS[options.outcome_header].items()
            if form.asked is Asked.BID_REQUEST or form.asked in others
        }
        # Its recipient is in the query.
        self._targeting = self._forms.pop(targeting.PATH, None)
        self.ask = pipeline.ask
        self.answer = pipeline.answer
        self.lookup = lookup
        self.deadlines = deadlines
        self.counters = counters
        self.options = options
        self.on_bug = on_bug
        self.monotonic = monotonic
        self.wall_s = 0.0
        """Unix time, set from outside; coarse, for windows in seconds."""
        self.age_line = b""
        """Header of the data's age, set from outside; may be empty."""
        self.in_flight = 0
        self.probes: Probes | None = None
        """Answers health and metrics, if on the port of bids."""
        self.seen: SeenRecorder | None = None
        """Records the ids of bids, if configured."""
        self.routes: dict[bytes, Route] = {}
        """The routes without credentials; `_guarded` has those with."""
        self._guarded: dict[bytes, Route] = {}
        self.catalog = Catalog.from_snapshot(_NOTHING_KNOWN)
        self.is_blind = True
        """Whether no catalog has been read yet."""
        self.catalog_until_s = -inf
        """Until when new bids may use the catalog, as `monotonic` counts."""

    @property
    def is_confirmed(self) -> bool:
        """Whether a bid that begins now may use the catalog."""
        return self.monotonic() < self.catalog_until_s

    def adopt(self, catalog: Catalog) -> None:
        """Use this catalog from the next request on."""
        # The old catalog routed the waiting bids; under the new, a blind worker's would end as
        # persons without segments, not as `store_down`.
        self.ask_all()
        self.catalog = catalog
        self.is_blind = False
        self.routes.clear()
        self._guarded.clear()

    def will_ask(self, bid: "Bid") -> None:
        """Take a bid into this turn's `ask_all`."""
        if not self._asking:
            self._call_soon(self.ask_all)
        self._asking.append(bid)

    def will_answer(self, bid: "Bid") -> None:
        """Take a bid into this turn's `answer_all`."""
        if not self._answering:
            self._call_soon(self.answer_all)
        self._answering.append(bid)

    def ask_all(self) -> None:
        """Take this turn's bids through the stages before the store."""
        bids, self._asking = self._asking, []
        for bid in bids:
            try:
                bid.ask()
            except Exception as bug:  # noqa: BLE001 - the others must be asked all the same
                self.fail(bid, bug)
        self.lookup.flush()
        # A single time for all questions of this write.
        now_s = self.monotonic()
        for bid in bids:
            bid.asked_s = now_s
        self._flush()

    def answer_all(self) -> None:
        """Answer, stage by stage, every bid with a reply in this turn."""
        bids, self._answering = self._answering, []
        now_s = self.monotonic()
        bids = [bid for bid in bids if bid.conclude(now_s)]
        if not self.in_flight:
            self.deadlines.forget()
        for bid in bids:
            try:
                bid.render()
            except Exception as bug:  # noqa: BLE001 - likewise
                self.fail(bid, bug)
        for bid in bids:
            try:
                bid.leave()
            except Exception as bug:  # noqa: BLE001 - likewise
                self.fail(bid, bug)
        self._flush()

    def fail(self, bid: "Bid", bug: Exception) -> None:
        """Abort a bid that can't even be answered unenriched."""
        self.on_bug(Where.HTTP, bug)
        bid.connection.abort()

    def route_for(self, head: Head, connection: Asker) -> Route | Refusal:
        """Find a route outside `routes`, and check credentials."""
        route = self._guarded.get(head.url) or self.route_of(head.url)
        if isinstance(route, Refusal):
            return route
        access = route.recipient.access
        refusal = None if access is None else refusal_of(access, head, connection)
        return route if refusal is None else refusal

    def route_of(self, url: bytes) -> Route | Refusal:
        """Find the route of a URL, and cache it."""
        try:
            parts = parse_url(url)
        except HttpParserInvalidURLError:
            return Refusal.UNKNOWN_PATH
        path = parts.path or b""
        if targeting.is_asked(path):
            return self._targeting_route(url)
        found = _form_of(path, self._forms)
        if found is None:
            return Refusal.UNKNOWN_PATH
        prefix, form, name = found
        if name is None:
            name = self.options.default_recipient
            if name is None and not self.options.allow_unnamed_recipient:
                return Refusal.UNKNOWN_RECIPIENT
        says_gzip = _GZIP_QUERY in _query_of(parts).split(b"&")
        return self._new_route(url, prefix, form, name, says_gzip=says_gzip)

    def _targeting_route(self, url: bytes) -> Route | Refusal:
        """Find a targeting query's route by its recipient: the rest varies."""
        form = self._targeting
        if form is None:
            return Refusal.UNKNOWN_PATH
        try:
            name = targeting.recipient_in(targeting.query_in(url)) or self.options.default_recipient
        except (UnicodeDecodeError, LookupError):
            return Refusal.UNKNOWN_RECIPIENT
        if name is None or name not in self.options.targeting_recipients:
            return Refusal.UNKNOWN_RECIPIENT
        key = b"%b %b" % (targeting.PATH, name.encode())  # with a space: no URL
        route = self.routes.get(key) or self._guarded.get(key)
        if route is not None:
            return route
        return self._new_route(key, targeting.PATH, form, name, says_gzip=False)

    def _new_route(
        self, key: bytes, path: bytes, form: Form, name: str | None, *, says_gzip: bool
    ) -> Route | Refusal:
        # A blind worker passes every request through.
        recipient = self.catalog.recipient(None if self.is_blind else name)
        if recipient is None:
            return Refusal.UNKNOWN_RECIPIENT
        route = Route(
            form,
            recipient,
            self.counters.requests_of(recipient.name),
            timings_of(PROTOCOLS[0], path.decode()),
            timings_of(PROTOCOLS[1], path.decode()),
            says_gzip,
            self._others.get(form.asked),
            self.options.tmax_share if form.tmax_share is None else form.tmax_share,
        )
        routes = self.routes if recipient.access is None else self._guarded
        if len(routes) < _MAX_ROUTES:
            routes[key] = route
        return route


def _query_of(parts: Any) -> bytes:
    # httptools declares bytes, an error if compiled.
    query: bytes | None = parts.query
    return query or b""


class Bid(Turn):
    """A bid request, from its last byte to its answer."""

    __slots__ = (
        "_began_s",
        "_bids",
        "_body",
        "_due_s",
        "_encoding",
        "_found",
        "_head",
        "_question",
        "_result",
        "_route",
        "asked_s",
    )

    _began_s: float
    _body: bytes | None
    _due_s: float
    _encoding: bytes
    _found: Found | LookupFault
    _head: bytes
    _result: Result
    _route: Route
    asked_s: float
    """When the question was sent, monotonic."""

    def __init__(self, bids: Bids, connection: Asker, head: Head) -> None:
        # Turn's fields are set here to save a call.
        self._bids = bids
        self._question: Question | None = None
        self.connection = connection
        self.extra = head.extra
        self.wants_gzip = head.wants_gzip
        self.is_last = head.is_last
        self.payload = None

    def begin(self, head: Head, body: bytes) -> None:
        """Find the route, and queue the bid for this turn's `ask_all`."""
        bids = self._bids
        route = bids.routes.get(head.url) or bids.route_for(head, self.connection)
        if isinstance(route, Refusal):
            self._body = body
            probes = bids.probes
            if probes is None or route is not Refusal.UNKNOWN_PATH or not probes.take(self, head):
                self.refuse(route)
        elif head.method != route.form.method:
            self.refuse(route.form.other_method)
        elif route.form.needs_json and not _is_json(head):
            self.refuse(Refusal.CONTENT_TYPE)
        else:
            self._route = route
            self._began_s = bids.monotonic()
            if route.form.asked is _TARGETING:
                self._body = targeting.query_in(head.url)
                self._encoding = b""
            else:
                self._body = body
                self._encoding = head.encoding
            bids.will_ask(self)

    def ask(self) -> None:
        """Do the stages before the store; send the question if needed."""
        bids = self._bids
        body, self._body = self._body, None
        if body is None:
            return  # the client has disconnected
        try:
            if self._encoding:
                body = unfold(body, self._encoding, bids.options.max_body_bytes)
            elif self._route.says_gzip and body.startswith(GZIP_MAGIC):
                body = unfold(body, b"gzip", bids.options.max_body_bytes)
            pipeline = self._route.pipeline
            ask = bids.ask if pipeline is None else pipeline.ask
            asked = ask(body, self._route.recipient, bids.catalog)
        except MalformedRequest as malformed:
            self._reject(malformed.reason)
        except BadEncoding:
            self._reject(Reason.BAD_ENCODING)
        except TooLarge:
            self.refuse(Refusal.BODY_TOO_LARGE)
        except Exception as bug:  # noqa: BLE001 - a bug costs only this request
            bids.on_bug(Where.ASK, bug)
            self._finish(Result(body, Outcome.NO_MATCH, Reason.FAULT))
        else:
            if isinstance(asked, Question):
                self._wait(asked)
            else:
                self._finish(asked)

    def _wait(self, question: Question) -> None:
        bids = self._bids
        options = bids.options
        if self._began_s >= bids.catalog_until_s:
            self._pass_unconfirmed(question)
            return
        if bids.in_flight >= options.max_in_flight:
            self._finish(question.passed(Outcome.SHED))
            return
        self._question = question
        bids.in_flight += 1
        self._due_s = self._began_s + self.left_ms(question) / MS_PER_S
        self.asked_s = self._began_s
        bids.deadlines.add(self, self._due_s)
        bids.lookup.ask(question.ids, self.on_found)

    def left_ms(self, question: Question) -> float:
        """Return the bid's deadline in ms after its arrival."""
        cap_ms = self._bids.options.deadline_cap_ms
        return deadline_ms(question.tmax_ms, self._route.tmax_share, cap_ms)

    def _pass_unconfirmed(self, question: Question) -> None:
        """Answer unenriched: the catalog may show too much."""
        fault = self._bids.lookup.fault
        if fault is None:
            self._finish(question.passed(Outcome.STORE_DOWN, Reason.CATALOG_UNCONFIRMED))
        else:
            # A single fault: an unreachable store can't confirm the catalog either.
            self._bids.counters.count_fault(fault)
            reason = _FAULT_TO_REASON.get(fault, Reason.NONE)
            self._finish(question.passed(Outcome.STORE_DOWN, reason))

    def on_found(self, found: Found | LookupFault) -> None:
        """Keep the records, and queue the bid for this turn's `answer_all`."""
        if self._question is not None:
            self._found = found
            self._bids.will_answer(self)

    def conclude(self, now_s: float) -> bool:
        """
        Make the result from the records.

        Returns:
            `False` if the bid has ended before.
        """
        question = self._question
        bids = self._bids
        found = self._found
        if question is None:
            return False
        self._question = None
        bids.in_flight -= 1
        if isinstance(found, LookupFault):
            bids.counters.count_fault(found)
            self._result = question.passed(Outcome.STORE_DOWN, _reason_of(found))
        elif now_s > self._due_s:  # but the timer has not fired yet
            bids.counters.count_wait(now_s - self.asked_s)
            self._result = question.passed(Outcome.OUT_OF_TIME)
        else:
            try:
                self._result = bids.answer(question, found, bids.wall_s)
            except Exception as bug:  # noqa: BLE001 - a bug costs only this request
                bids.on_bug(Where.ANSWER, bug)
                self._result = question.passed(Outcome.NO_MATCH, Reason.FAULT)
            else:
                if bids.seen is not None and self._result.outcome not in _NOT_REMEMBERED:
                    bids.seen.add(question.ids)
            bids.counters.count_ids(question.kinds, found, now_s - self.asked_s)
        return True

    def render(self) -> None:
        """Write the answer's head and body, in the route's form."""
        form = self._route.form
        result = self._result
        try:
            body = form.render(result)
        except Exception as bug:  # noqa: BLE001 - a bug costs only this request
            self._bids.on_bug(Where.FORM, bug)
            result = Result(result.body, Outcome.NO_MATCH, Reason.FAULT)
            body = form.render(result)
        self._count(result.outcome, result.reason, _OK if body else _NOTHING)
        self._body = body
        self._head = (form.heads if body else form.nothing)[result.outcome]

    def leave(self) -> None:
        """Hand the answer to the connection, and release its parts."""
        body, self._body = self._body, None
        self.forget()
        if body:
            self.answer(self._head, body)
        else:
            self.answer_nothing(self._head)

    def forget(self) -> None:
        """Release the answer's parts."""
        # The deadline timer keeps this object for milliseconds; memory freed now is still in the
        # processor's cache.
        self._result, self._found = _LEFT, ()

    def expire(self) -> None:
        """Answer unenriched: the deadline has passed."""
        question = self._question
        if question is not None:
            self._question = None
            bids = self._bids
            bids.in_flight -= 1
            bids.counters.count_wait(bids.monotonic() - self.asked_s)
            bids.lookup.note_late()
            try:
                self._finish(question.passed(Outcome.OUT_OF_TIME))
            except Exception as bug:  # noqa: BLE001 - the other expired bids must be answered too
                bids.fail(self, bug)

    def abandon(self) -> None:
        """Drop the bid: the client has disconnected."""
        self._body = None
        if self._question is not None:
            self._question = None
            self._bids.in_flight -= 1

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has disconnected; not for bids."""
        return self._body is None

    def _reject(self, reason: Reason) -> None:
        self._count(Outcome.MALFORMED, reason, _BAD)
        self.answer(_MALFORMED[reason], b"")

    def _finish(self, result: Result) -> None:
        self._result = result
        self.render()
        self.leave()

    def _count(self, outcome: Outcome, reason: Reason, status: int) -> None:
        bids = self._bids
        route = self._route
        elapsed_s = bids.monotonic() - self._began_s
        timings = route.http2_timings if self.connection.is_http2 else route.timings
        bids.counters.count_request(route.cells, timings[status], outcome, reason, elapsed_s)


def _reason_of(fault: LookupFault | None) -> Reason:
    """Return the reason of `store_down`, for faults that need action."""
    return Reason.NONE if fault is None else _FAULT_TO_REASON.get(fault, Reason.NONE)


def _is_json(head: Head) -> bool:
    media_type = head.header(b"content-type").partition(b";")[0]
    return media_type.strip().lower() == b"application/json"


def _form_of(path: bytes, forms: Mapping[bytes, Form]) -> tuple[bytes, Form, str | None] | None:
    """Return a form's path, the form, and the recipient after it."""
    for prefix, form in forms.items():
        if path == prefix:
            return prefix, form, None
        if path.startswith(prefix + b"/"):
            try:
                return prefix, form, unquote_to_bytes(path[len(prefix) + 1 :]).decode()
            except UnicodeDecodeError:
                return None
    return None
