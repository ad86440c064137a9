"""
Bid requests on the listener: where HTTP, the pipeline and the store's link meet.

    client       begin                            as each request is read
    Bids         ask_all      pipeline.ask x n    once a turn of the event loop
                              one write to the store
    store        on_found                         as each reply is read
    Bids         answer_all   pipeline.answer x n, form x n, write x n
    deadline     expire       as it came          when the store is not in time

Whichever ends a bid first, the others find it ended and do nothing. A bug of
ours costs one request its segments and nobody anything else: it leaves as it
came, and the bug is counted.

Bids that come together go through each stage together. The stages are more code
than the processor's first cache holds, so bid by bid each of them would be
fetched anew: measured in process, a bid in a turn of sixteen costs a quarter
less than one that goes through all stages by itself. A bid alone waits for
nobody.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from httptools import HttpParserInvalidURLError, parse_url

from rtb.catalog import Catalog, Recipient
from rtb.deadline import deadline_ms
from rtb.lookup.link import Found, LookupFault
from rtb.lookup.lookup import Lookup
from rtb.outcome import MalformedRequest, Outcome, OutcomeHeader, Reason
from rtb.pipeline import Pipeline, Question, Result
from rtb.server.answer_forms import FORMS, Form
from rtb.server.deadline_timer import Deadlines
from rtb.server.http.http11 import GZIP_MAGIC, BadEncoding, TooLarge, head_of, unfold
from rtb.server.http.protocol import Connection, Turn
from rtb.server.http.request_heads import Head
from rtb.server.metrics.layout import Refusal, Where
from rtb.server.metrics.shared_counters import SharedCounters
from segments.model.catalog import CatalogSnapshot

if TYPE_CHECKING:
    from rtb.server.seen_recorder import SeenRecorder

MS_PER_S: Final = 1000
_MAX_ROUTES: Final = 4096

_MALFORMED: Final = {reason: head_of(400, Outcome.MALFORMED, reason) for reason in Reason}

_NOT_REMEMBERED: Final = (Outcome.OPTED_OUT, Outcome.STORE_DOWN)
"""Who said no, or may have: nobody could tell."""

_FAULT_TO_REASON: Final = {
    LookupFault.LEDGER_BEHIND: Reason.LEDGER_BEHIND,
    LookupFault.OPT_OUTS_STALE: Reason.OPT_OUTS_STALE,
}
"""Where the store is there, and is not to be believed; the other faults are counted apart."""

_LEFT: Final = Result(b"", Outcome.NO_MATCH)
"""In place of the result of a bid that has left."""

_NOTHING_KNOWN: Final = CatalogSnapshot(0, (), (), ())


class BidOptions(NamedTuple):
    """What a deployment has decided about the edge; `rtb.settings` documents each."""

    deadline_cap_ms: float
    tmax_share: float
    max_in_flight: int
    max_body_bytes: int
    allow_unnamed_recipient: bool
    outcome_header: OutcomeHeader


_GZIP_QUERY: Final = b"gzip=1"
"""Hosts that can't set a header say so in the URL that they were given."""


class Route(NamedTuple):
    """What a URL leads to, under the catalog in force."""

    form: Form
    recipient: Recipient
    cells: int  # where the recipient's requests are counted
    says_gzip: bool  # a body may be gzip without a word of it in its head


class Bids:
    """
    What all bids of a worker share.

    Args:
        on_bug: Told where a bug was caught, and the exception.
        call_soon: The event loop's.
    """

    __slots__ = (
        "_answering",
        "_asking",
        "_call_soon",
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
        on_bug: Callable[[Where, Exception], None],
        call_soon: Callable[[Callable[[], None]], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asking: list[Bid] = []
        self._answering: list[Bid] = []
        self._call_soon = call_soon
        self.ask = pipeline.ask
        self.answer = pipeline.answer
        self.lookup = lookup
        self.deadlines = deadlines
        self.counters = counters
        self.options = options
        self.on_bug = on_bug
        self.monotonic = monotonic
        self.wall_s = 0.0
        """Unix time, as coarse as whoever sets it; activation windows are in seconds."""
        self.in_flight = 0
        self.seen: SeenRecorder | None = None
        """Remembers the ids of bids, where the operator wants that."""
        self.routes: dict[bytes, Route] = {}
        self.catalog = Catalog.from_snapshot(_NOTHING_KNOWN)
        self.is_blind = True
        """Whether no catalog has been read yet; then nobody can be told apart."""
        self.catalog_until_s = -inf
        """Until when a bid that begins is answered by the catalog, as `monotonic` counts."""

    @property
    def is_confirmed(self) -> bool:
        """Whether a bid that begins now is answered by the catalog."""
        return self.monotonic() < self.catalog_until_s

    def adopt(self, catalog: Catalog) -> None:
        """Answer by this catalog from the next request on."""
        # What has begun was routed by the catalog before: asked by the new one, a bid that
        # came to a blind worker would be a person without segments, and not `store_down`.
        self.ask_all()
        self.catalog = catalog
        self.is_blind = False
        self.routes.clear()

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
        """Do all that needs no store, and ask it, for every bid of this turn."""
        bids, self._asking = self._asking, []
        self._each(Bid.ask, bids)
        self.lookup.flush()

    def answer_all(self) -> None:
        """Answer every bid whose reply came in this turn, stage by stage."""
        bids, self._answering = self._answering, []
        now_s = self.monotonic()
        bids = [bid for bid in bids if bid.conclude(now_s)]
        self._each(Bid.render, bids)
        self._each(Bid.leave, bids)

    def _each(self, stage: Callable[["Bid"], None], bids: Iterable["Bid"]) -> None:
        for bid in bids:
            try:
                stage(bid)
            except Exception as bug:  # noqa: BLE001 - the others must leave all the same
                self.fail(bid, bug)

    def fail(self, bid: "Bid", bug: Exception) -> None:
        """End a bid that can't even leave as it came; its client connects anew."""
        self.on_bug(Where.HTTP, bug)
        bid.connection.abort()

    def route_of(self, url: bytes) -> Route | Refusal:
        """Find out what a URL leads to, and remember it."""
        try:
            parts = parse_url(url)
        except HttpParserInvalidURLError:
            return Refusal.UNKNOWN_PATH
        found = _form_of(parts.path or b"", FORMS[self.options.outcome_header])
        if found is None:
            return Refusal.UNKNOWN_PATH
        form, name = found
        if name is None and not self.options.allow_unnamed_recipient:
            return Refusal.UNKNOWN_RECIPIENT
        # A blind worker knows no recipient; it lets through what it can't judge.
        recipient = self.catalog.recipient(None if self.is_blind else name)
        if recipient is None:
            return Refusal.UNKNOWN_RECIPIENT
        route = Route(
            form,
            recipient,
            self.counters.requests_of(recipient.name),
            _GZIP_QUERY in _query_of(parts).split(b"&"),
        )
        if len(self.routes) < _MAX_ROUTES:
            self.routes[url] = route
        return route


def _query_of(parts: Any) -> bytes:
    # httptools declares bytes, and has `None` of a URL without a query: compiled, that is an error.
    query: bytes | None = parts.query
    return query or b""


class Bid(Turn):
    """One bid request, from its last byte to its answer."""

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
    )

    _began_s: float
    _due_s: float
    _encoding: bytes
    _found: Found | LookupFault
    _head: bytes
    _result: Result
    _route: Route

    def __init__(self, bids: Bids, connection: Connection, head: Head) -> None:
        # Turn's fields are set here, for `super().__init__` would be a call more.
        self._bids = bids
        self._question: Question | None = None
        self.connection = connection
        self.extra = head.extra
        self.wants_gzip = head.wants_gzip
        self.is_last = head.is_last
        self.payload = None

    def begin(self, head: Head, body: bytes) -> None:
        """Find out what is asked for, and line up."""
        bids = self._bids
        route = bids.routes.get(head.url) or bids.route_of(head.url)
        if isinstance(route, Refusal):
            self.refuse(route)
        elif head.method != b"POST":
            self.refuse(Refusal.NOT_POST)
        elif route.form.needs_json and not _is_json(head):
            self.refuse(Refusal.CONTENT_TYPE)
        else:
            self._route = route
            self._began_s = bids.monotonic()
            self._body: bytes | None = body
            self._encoding = head.encoding
            bids.will_ask(self)

    def ask(self) -> None:
        """Do all that needs no store, and ask it if it is needed."""
        bids = self._bids
        body, self._body = self._body, None
        if body is None:
            return  # the client is gone
        try:
            if self._encoding:
                body = unfold(body, self._encoding, bids.options.max_body_bytes)
            elif self._route.says_gzip and body.startswith(GZIP_MAGIC):
                body = unfold(body, b"gzip", bids.options.max_body_bytes)
            asked = bids.ask(body, self._route.recipient, bids.catalog)
        except MalformedRequest as malformed:
            self._reject(malformed.reason)
        except BadEncoding:
            self._reject(Reason.BAD_ENCODING)
        except TooLarge:
            self.refuse(Refusal.BODY_TOO_LARGE)
        except Exception as bug:  # noqa: BLE001 - one request's, whatever it is
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
        left_ms = deadline_ms(question.tmax_ms, options.tmax_share, options.deadline_cap_ms)
        self._due_s = self._began_s + left_ms / MS_PER_S
        bids.deadlines.add(self, self._due_s)
        bids.lookup.ask(question.ids, self.on_found)

    def _pass_unconfirmed(self, question: Question) -> None:
        """Let the request through: what the catalog shows may be forbidden by now."""
        fault = self._bids.lookup.fault
        if fault is None:
            self._finish(question.passed(Outcome.STORE_DOWN, Reason.CATALOG_UNCONFIRMED))
        else:
            # One trouble, and not two: who can't be asked for records confirms nothing either.
            self._bids.counters.count_fault(fault)
            reason = _FAULT_TO_REASON.get(fault, Reason.NONE)
            self._finish(question.passed(Outcome.STORE_DOWN, reason))

    def on_found(self, found: Found | LookupFault) -> None:
        """Keep what the store holds of the ids asked for, and line up."""
        if self._question is not None:
            self._found = found
            self._bids.will_answer(self)

    def conclude(self, now_s: float) -> bool:
        """
        Make the result of what was found.

        Returns:
            Whether there is one: not if time was up, or the client has gone.
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
        elif now_s > self._due_s:  # and the timer has not come round yet
            self._result = question.passed(Outcome.OUT_OF_TIME)
        else:
            try:
                self._result = bids.answer(question, found, bids.wall_s)
            except Exception as bug:  # noqa: BLE001 - one request's, whatever it is
                bids.on_bug(Where.ANSWER, bug)
                self._result = question.passed(Outcome.NO_MATCH, Reason.FAULT)
            else:
                if bids.seen is not None and self._result.outcome not in _NOT_REMEMBERED:
                    bids.seen.add(question.ids)
            bids.counters.count_ids(question.kinds, found)
        return True

    def render(self) -> None:
        """Write the answer's head and body, in the form asked for."""
        form = self._route.form
        result = self._result
        try:
            body = form.render(result)
        except Exception as bug:  # noqa: BLE001 - one request's, whatever it is
            self._bids.on_bug(Where.FORM, bug)
            result = Result(result.body, Outcome.NO_MATCH, Reason.FAULT)
            body = form.render(result)
        self._count(result.outcome, result.reason)
        self._body = body
        self._head = (form.heads if body else form.nothing)[result.outcome]

    def leave(self) -> None:
        """Hand the answer to the connection, and let go of all that it was made of."""
        body, self._body = self._body, None
        # The deadlines know of us for some milliseconds more: what we held on to would be
        # the next bids' memory, and still in the processor's cache.
        self._result, self._found = _LEFT, ()
        if body:
            self.answer(self._head, body)
        else:
            self.answer_nothing(self._head)

    def expire(self) -> None:
        """Let the request through: its time is up."""
        question = self._question
        if question is not None:
            self._question = None
            self._bids.in_flight -= 1
            try:
                self._finish(question.passed(Outcome.OUT_OF_TIME))
            except Exception as bug:  # noqa: BLE001 - the others whose time is up must leave too
                self._bids.fail(self, bug)

    def abandon(self) -> None:
        """Forget it: the client is gone. What the store says of it later finds nobody."""
        self._body = None
        if self._question is not None:
            self._question = None
            self._bids.in_flight -= 1

    def _reject(self, reason: Reason) -> None:
        self._count(Outcome.MALFORMED, reason)
        self.answer(_MALFORMED[reason], b"")

    def _finish(self, result: Result) -> None:
        self._result = result
        self.render()
        self.leave()

    def _count(self, outcome: Outcome, reason: Reason) -> None:
        bids = self._bids
        bids.counters.count_request(
            self._route.cells, outcome, reason, bids.monotonic() - self._began_s
        )


def _reason_of(fault: LookupFault | None) -> Reason:
    """Return the reason of `store_down`, where whoever reads it must do more than wait."""
    return Reason.NONE if fault is None else _FAULT_TO_REASON.get(fault, Reason.NONE)


def _is_json(head: Head) -> bool:
    media_type = head.header(b"content-type").partition(b";")[0]
    return media_type.strip().lower() == b"application/json"


def _form_of(path: bytes, forms: Mapping[bytes, Form]) -> tuple[Form, str | None] | None:
    """Return the form that a path asks for, and the recipient that it names."""
    for prefix, form in forms.items():
        if path == prefix:
            return form, None
        if path.startswith(prefix + b"/"):
            try:
                return form, unquote_to_bytes(path[len(prefix) + 1 :]).decode()
            except UnicodeDecodeError:
                return None
    return None
