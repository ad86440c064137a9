"""
A visit: a request, its visitor, and the values that a page needs for its answer.

`segments.console.application` settles login, roles, origins and errors before and after.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiDict, MultiMapping

from segments.acts.staff import who_is
from segments.acts.trail import By
from segments.console.assets import Assets
from segments.console.bid_history import BidHistory
from segments.console.checks import Checks
from segments.console.cookie import Cookie
from segments.console.options import ConsoleOptions
from segments.console.rendering import Templates, version_of
from segments.console.same_origin import FIELD, SAFE, form_token
from segments.console.zones import UTC_NAME, is_zone
from segments.doors.privacy.report_store import Reports
from segments.doors.privacy.submission import Submissions
from segments.doors.rest.logins import Guesses
from segments.doors.rest.services import Services
from segments.ledger.console_sessions import ConsoleSession
from segments.ledger.staff import Staff
from segments.ledger.users import User
from segments.model.account import Account
from segments.model.role import Role
from segments.upkeep.listeners import Listeners
from segments.upkeep.opt_out_flood import FloodWatch

PROVEN_FOR_S = 300
"""An act that can't be undone asks for the code or the password again after this time."""


_MARK_BYTES = 8
_MAX_DIGITS = 18
"""Of the ledger's numbers, which have 63 bits."""


class Visitor(NamedTuple):
    """A person who has logged in."""

    person: User | Staff
    account: Account | None  # `None`: the deployment
    roles: frozenset[Role]
    session: ConsoleSession
    token: str  # the cookie's

    @property
    def zone_name(self) -> str:
        """The person's time zone."""
        chosen = self.person.time_zone
        return chosen if chosen is not None and is_zone(chosen) else UTC_NAME

    @property
    def is_staff(self) -> bool:
        """Whether this is staff."""
        return isinstance(self.person, Staff)


@dataclass(frozen=True)
class Console:
    """
    The parts that all pages share.

    Args:
        services: Of the REST doors: ledger, store, files, clocks.
        submissions: Of persons' requests, as at the Privacy API.
        reports: Of access requests.
        roles: Served at this port.
        checks: Of the deployment, for operators.
        listeners: That explain bids.
        kept: Facts of the ledger that never change, once read.
    """

    services: Services
    options: ConsoleOptions
    submissions: Submissions
    reports: Reports
    roles: frozenset[Role] = frozenset(Role)
    checks: Checks = field(default_factory=Checks)
    listeners: Listeners = Listeners()  # noqa: RUF009 - immutable
    history: BidHistory = field(default_factory=BidHistory)
    assets: Assets = field(default_factory=Assets)
    kept: dict[str, bytes] = field(default_factory=dict)
    flood: FloodWatch = field(init=False)
    templates: Templates = field(init=False)
    guesses: Guesses = field(init=False)
    cookie: Cookie = field(init=False)

    def __post_init__(self) -> None:
        is_staffs = Role.PARTNER not in self.roles
        cookie = Cookie.of(is_secure=self.options.is_secure, is_staffs=is_staffs)
        flood = FloodWatch(self.services.ledger, self.options.flood, self.services.now_s)
        object.__setattr__(self, "flood", flood)
        object.__setattr__(self, "templates", Templates(self.assets.paths))
        object.__setattr__(self, "guesses", Guesses(self.services))
        object.__setattr__(self, "cookie", cookie)


class Visit(NamedTuple):
    """A request and its visitor."""

    console: Console
    request: web.Request
    visitor: Visitor | None
    form: MultiMapping[Any] = MultiDict()

    @property
    def now_s(self) -> float:
        """The time."""
        return self.console.services.now_s()

    @property
    def known(self) -> Visitor:
        """The visitor of a page that needs one."""
        assert self.visitor is not None, "the page has roles"
        return self.visitor

    @property
    def account(self) -> Account:
        """The account of a partner's user."""
        account = self.known.account
        assert account is not None, "a user has an account"
        return account

    @property
    def by(self) -> By:
        """The visitor as the actor of an act, now."""
        return By(who_is(self.known.person), self.now_s)

    def text(self, name: str) -> str:
        """Return a field of the form, stripped; empty if it is missing."""
        value = self.form.get(name, "")
        return value.strip() if isinstance(value, str) else ""

    def chosen(self, name: str) -> int | None:
        """Return one of the ledger's numbers from the URL; `None` if it is missing or invalid."""
        return number_of(self.request.query.get(name, ""))

    def values(self, **more: Any) -> dict[str, Any]:
        """Return a template's values: those of every page, and more."""
        visitor = self.visitor
        return {
            "visitor": visitor,
            "path": self.request.path,
            "query": self.request.query,
            "now_s": self.now_s,
            "form_field": FIELD,
            "form_token": "" if visitor is None else form_token(visitor.token),
            "done": self.request.query.get("done", ""),
            "ask": self.request.query.get("ask", ""),
            "error": "",
            **more,
        }

    def page(self, name: str, /, *, status: int = 200, **values: Any) -> web.Response:
        """Answer with a page."""
        body = self.console.templates.page(name, self.values(**values))
        return self._answer(body, status)

    def live_page(self, name: str, url: str, /, *, is_moving: bool, **values: Any) -> web.Response:
        """
        Answer with a page whose block `live` changes while it is open, or with that block.

        A browser that has the block already, by `v`, gets 204. A block that can't change has no
        trigger.

        `url` is this page's; `is_moving`: the block can change.
        """
        mark = secrets.token_hex(_MARK_BYTES)  # where the block names its own version
        live = {"is_moving": is_moving, "live_url": url, "live_version": mark}
        template, said = self.console.templates, self.values(**values, **live)
        part = template.part(name, "live", said)
        # Digest the block without the mark and without the token, which each answer masks anew.
        version = version_of(part.replace(mark, "").replace(said["form_token"], ""))
        if self.request.headers.get("HX-Request") != "true":
            return self._answer(
                template.page_around(name, "live", part.replace(mark, version), said)
            )
        if self.request.query.get("v") == version:
            return web.Response(status=204)
        return self._answer(part.replace(mark, version))

    def _answer(self, body: str, status: int = 200) -> web.Response:
        answer = web.Response(text=body, content_type="text/html", status=status)
        if self.request.method in SAFE:
            # Not a form's answer: its length would tell of the ids typed into it.
            answer.enable_compression()
        return answer


def number_of(text: str) -> int | None:
    """Return a number of the ledger's, as a URL or a form has it; `None` for any other text."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


def see_other(path: str, **query: str) -> web.Response:
    """Answer an act: the browser goes on to a page, whose URL has nothing typed."""
    location = f"{path}?{urlencode(query)}" if query else path
    return web.Response(status=303, headers={"Location": location})


Handler = Callable[[Visit], Any]
Query = Mapping[str, str]
