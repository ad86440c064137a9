"""
Bid requests on the listener: where HTTP, the pipeline and the store's link meet.

    begin  -> pipeline.ask  -> lookup.ask           now, in the client's callback
    on_found -> pipeline.answer -> form -> answer    when the store replies
    expire   -> passed(out_of_time)  -> answer       when it does not, in time

Whichever comes first ends the bid; the others then find it ended and do
nothing. A bug of ours costs one request its segments and nobody anything else:
it leaves as it came, and the bug is counted.
"""

import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from httptools import HttpParserInvalidURLError, parse_url

from rtb.catalog import Catalog, Recipient
from rtb.deadline import deadline_ms
from rtb.lookup import Found, Lookup, LookupFault
from rtb.outcome import MalformedRequest, Outcome, Reason
from rtb.pipeline import Pipeline, Question, Result
from rtb.server.deadlines import Deadlines
from rtb.server.forms import FORMS, NOTHING, Form
from rtb.server.http11 import BadEncoding, TooLarge, head_of, unfold
from rtb.server.metrics import Refusal, Slab, Where
from rtb.server.protocol import Connection, Turn
from segments.store.reader import CatalogSnapshot

MS_PER_S = 1000
_MAX_ROUTES = 4096

_MALFORMED = {reason: head_of(400, Outcome.MALFORMED, reason) for reason in Reason}

_NOTHING_KNOWN = CatalogSnapshot(0, (), (), ())


class Options(NamedTuple):
    """What a deployment has decided about the edge; `rtb.settings` documents each."""

    deadline_cap_ms: float
    tmax_share: float
    max_in_flight: int
    max_body_bytes: int
    allow_unnamed_recipient: bool


class Route(NamedTuple):
    """What a URL leads to, under the catalog in force."""

    form: Form
    recipient: Recipient
    cells: int  # where the recipient's requests are counted


class Bids:
    """
    What all bids of a worker share.

    Args:
        on_bug: Told where a bug was caught, and the exception.
    """

    __slots__ = (
        "answer",
        "ask",
        "catalog",
        "deadlines",
        "in_flight",
        "is_blind",
        "lookup",
        "monotonic",
        "on_bug",
        "options",
        "routes",
        "slab",
        "wall_s",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        lookup: Lookup,
        deadlines: Deadlines,
        slab: Slab,
        *,
        options: Options,
        on_bug: Callable[[Where, Exception], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ask = pipeline.ask
        self.answer = pipeline.answer
        self.lookup = lookup
        self.deadlines = deadlines
        self.slab = slab
        self.options = options
        self.on_bug = on_bug
        self.monotonic = monotonic
        self.wall_s = 0.0
        """Unix time, as coarse as whoever sets it; activation windows are in seconds."""
        self.in_flight = 0
        self.routes: dict[bytes, Route] = {}
        self.catalog = Catalog.from_snapshot(_NOTHING_KNOWN)
        self.is_blind = True
        """Whether no catalog has been read yet; then nothing is enriched."""

    def adopt(self, catalog: Catalog) -> None:
        """Answer by this catalog from the next request on."""
        self.catalog = catalog
        self.is_blind = False
        self.routes.clear()

    def route_of(self, url: bytes) -> Route | Refusal:
        """Find out what a URL leads to, and remember it."""
        try:
            path: bytes = parse_url(url).path or b""
        except HttpParserInvalidURLError:
            return Refusal.UNKNOWN_PATH
        found = _form_of(path)
        if found is None:
            return Refusal.UNKNOWN_PATH
        form, name = found
        if name is None and not self.options.allow_unnamed_recipient:
            return Refusal.UNKNOWN_RECIPIENT
        # A blind worker knows no recipient; it lets through what it can't judge.
        recipient = self.catalog.recipient(None if self.is_blind else name)
        if recipient is None:
            return Refusal.UNKNOWN_RECIPIENT
        route = Route(form, recipient, self.slab.requests_of(recipient.name))
        if len(self.routes) < _MAX_ROUTES:
            self.routes[url] = route
        return route


class Bid(Turn):
    """One bid request, from its last byte to its answer."""

    __slots__ = ("_began_s", "_bids", "_due_s", "_question", "_route")

    _route: Route
    _began_s: float
    _due_s: float

    def __init__(
        self, bids: Bids, connection: Connection, extra: bytes, wants_gzip: bool, is_last: bool
    ) -> None:
        # Turn's fields are set here, for `super().__init__` would be a call more.
        self._bids = bids
        self._question: Question | None = None
        self.connection = connection
        self.extra = extra
        self.wants_gzip = wants_gzip
        self.is_last = is_last
        self.payload = None

    def begin(self, method: bytes, url: bytes, body: bytes, encoding: bytes) -> None:
        """Do all that needs no store, and ask it."""
        bids = self._bids
        route = bids.routes.get(url) or bids.route_of(url)
        if isinstance(route, Refusal):
            self.refuse(route)
        elif method != b"POST":
            self.refuse(Refusal.NOT_POST)
        elif route.form.needs_json and not self._is_json():
            self.refuse(Refusal.CONTENT_TYPE)
        else:
            self._route = route
            self._began_s = bids.monotonic()
            self._take(body, encoding)

    def _is_json(self) -> bool:
        media_type = self.connection.header(b"content-type").partition(b";")[0]
        return media_type.strip().lower() == b"application/json"

    def _take(self, body: bytes, encoding: bytes) -> None:
        bids = self._bids
        try:
            if encoding:
                body = unfold(body, encoding, bids.options.max_body_bytes)
            asked = bids.ask(body, self._route.recipient, bids.catalog)
        except MalformedRequest as malformed:
            self._reject(malformed.reason)
        except BadEncoding:
            self._reject(Reason.BAD_ENCODING)
        except TooLarge:
            self.refuse(Refusal.BODY_TOO_LARGE)
        except Exception as bug:  # noqa: BLE001 - one request's, whatever it is
            bids.on_bug(Where.ASK, bug)
            self._finish(Result(body, Outcome.NO_MATCH, Reason.FAULT), bids.monotonic())
        else:
            if isinstance(asked, Question):
                self._wait(asked)
            else:
                self._finish(asked, bids.monotonic())

    def _wait(self, question: Question) -> None:
        bids = self._bids
        options = bids.options
        if bids.is_blind:
            self._finish(question.passed(Outcome.STORE_DOWN), bids.monotonic())
            return
        if bids.in_flight >= options.max_in_flight:
            self._finish(question.passed(Outcome.SHED), bids.monotonic())
            return
        self._question = question
        bids.in_flight += 1
        left_ms = deadline_ms(question.tmax_ms, options.tmax_share, options.deadline_cap_ms)
        self._due_s = self._began_s + left_ms / MS_PER_S
        bids.deadlines.add(self, self._due_s)
        bids.lookup.ask(question.ids, self.on_found)

    def on_found(self, found: Found | LookupFault) -> None:
        """Answer by what the store holds of the ids asked for."""
        question = self._question
        bids = self._bids
        if question is None:
            return  # its time was up, or the client is gone
        self._question = None
        bids.in_flight -= 1
        now_s = bids.monotonic()
        if isinstance(found, LookupFault):
            bids.slab.count_fault(found)
            result = question.passed(Outcome.STORE_DOWN)
        elif now_s > self._due_s:  # and the timer has not come round yet
            result = question.passed(Outcome.OUT_OF_TIME)
        else:
            try:
                result = bids.answer(question, found, bids.wall_s)
            except Exception as bug:  # noqa: BLE001 - one request's, whatever it is
                bids.on_bug(Where.ANSWER, bug)
                result = question.passed(Outcome.NO_MATCH, Reason.FAULT)
            bids.slab.count_ids(question.kinds, found)
        self._finish(result, now_s)

    def expire(self) -> None:
        """Let the request through: its time is up."""
        question = self._question
        if question is not None:
            self._question = None
            self._bids.in_flight -= 1
            self._finish(question.passed(Outcome.OUT_OF_TIME), self._bids.monotonic())

    def abandon(self) -> None:
        """Forget it: the client is gone. What the store says of it later finds nobody."""
        if self._question is not None:
            self._question = None
            self._bids.in_flight -= 1

    def _reject(self, reason: Reason) -> None:
        self._count(Outcome.MALFORMED, reason, self._bids.monotonic())
        self.answer(_MALFORMED[reason], b"")

    def _finish(self, result: Result, now_s: float) -> None:
        form = self._route.form
        try:
            body = form.render(result)
        except Exception as bug:  # noqa: BLE001 - one request's, whatever it is
            self._bids.on_bug(Where.FORM, bug)
            result = Result(result.body, Outcome.NO_MATCH, Reason.FAULT)
            body = form.render(result)
        outcome, route = result.outcome, self._route
        elapsed_s = now_s - self._began_s
        self._bids.slab.count_request(route.cells, outcome, result.reason, elapsed_s)
        if body:
            self.answer(form.heads[outcome], body)
        else:
            self.answer_nothing(NOTHING[outcome])

    def _count(self, outcome: Outcome, reason: Reason, now_s: float) -> None:
        self._bids.slab.count_request(self._route.cells, outcome, reason, now_s - self._began_s)


def _form_of(path: bytes) -> tuple[Form, str | None] | None:
    """Return the form that a path asks for, and the recipient that it names."""
    for prefix, form in FORMS.items():
        if path == prefix:
            return form, None
        if path.startswith(prefix + b"/"):
            try:
                return form, unquote_to_bytes(path[len(prefix) + 1 :]).decode()
            except UnicodeDecodeError:
                return None
    return None
