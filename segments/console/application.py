r"""
The console's application: every request passes through `_Gate`, in this order.

    host -> session -> roles -> origin and token -> the page -> headers
        \ ---------- 403, 404, 303 to the login ---------- /
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from aiohttp import hdrs, web

from segments.console import assets, faults, formats
from segments.console.headers import set_headers
from segments.console.options import LOOPBACK
from segments.console.people import visitor_of
from segments.console.same_origin import FIELD, HEADER, SAFE, is_same_origin, is_token_of
from segments.console.visit import Console, Visit, see_other
from segments.console.zones import UTC_NAME, zone_of
from segments.doors.rest.observed import OPERATION, observing, say_request_id
from segments.doors.rest.problem import Problem
from segments.ledger.users import User
from segments.model.role import Role
from segments.runtime.http_server import client_is_known
from segments.runtime.spans import NO_SPANS, Spans

MAX_FORM_BYTES = 64 << 10

EVERYBODY = frozenset(Role)

_OF_FIRST_PASSWORD = ("/account", "/account/password", "/logout")
"""Pages that are open before a user has replaced a generated password."""

Answer = Awaitable[web.StreamResponse]


class Page(NamedTuple):
    """
    A page, or an act of one.

    Args:
        method: GET or POST.
        path: As in a URL, with aiohttp's `{names}`.
        answer: Makes the answer.
        roles: Those permitted; `None`: all visitors, as to log in.
        is_streamed: The handler reads the body, and checks the form's token itself.
    """

    method: str
    path: str
    answer: Callable[[Visit], Answer]
    roles: Collection[Role] | None = EVERYBODY
    is_streamed: bool = False


def application(
    console: Console,
    pages: Sequence[Page],
    add_health: Callable[[web.Application], None] = lambda _: None,
    spans: Spans = NO_SPANS,
) -> web.Application:
    """
    Make the application of a port, with the pages that its roles may see.

    `add_health` adds the paths without a login; `spans` makes a span of each request.
    """
    app = web.Application(
        client_max_size=MAX_FORM_BYTES, middlewares=observing(console.services, spans)
    )
    app.on_response_prepare.append(say_request_id)
    gate = _Gate(console)

    async def say_headers(_: web.Request, answer: web.StreamResponse) -> None:
        set_headers(answer, is_secure=console.options.is_secure)

    app.on_response_prepare.append(say_headers)
    for page in pages:
        if page.roles is None or console.roles & frozenset(page.roles):
            app.router.add_route(page.method, page.path, gate.handler(page))
    app.router.add_get(assets.PREFIX + "{hash}/{name}", console.assets.serve)
    add_health(app)
    app.router.add_route("*", "/{rest:.*}", gate.nowhere)
    return app


class _Gate:
    def __init__(self, console: Console) -> None:
        self._console = console

    def handler(self, page: Page) -> Callable[[web.Request], Answer]:
        operation = ("console", f"{page.method} {page.path}")

        async def handle(request: web.Request) -> web.StreamResponse:
            request[OPERATION] = operation
            visit = Visit(self._console, request, None)
            try:
                self._check_host(request)
                visit = visit._replace(visitor=await visitor_of(self._console, request))
                zone_name = UTC_NAME if visit.visitor is None else visit.visitor.zone_name
                with formats.in_zone(zone_of(zone_name)):
                    if page.roles is None:
                        return await self._open(page, visit)
                    return await self._closed(page, page.roles, visit)
            except Exception as error:  # noqa: BLE001 - a failure of ours must cost a single request
                answer = faults.page_of(visit, error)
                if not request.content.at_eof():
                    answer.force_close()
                return answer

        return handle

    async def nowhere(self, request: web.Request) -> web.StreamResponse:
        """Answer a path without a page, in the same way as another account's page."""
        visit = Visit(self._console, request, None)
        try:
            visit = visit._replace(visitor=await visitor_of(self._console, request))
            raise faults.Lost
        except Exception as error:  # noqa: BLE001 - likewise
            answer = faults.page_of(visit, error)
            answer.force_close()
            return answer

    async def _open(self, page: Page, visit: Visit) -> web.StreamResponse:
        """Answer a page that needs no login; its form, too, must come from a page of ours."""
        if page.method not in SAFE:
            if not is_same_origin(visit.request, self._console.options.public_origin):
                raise faults.ForeignForm
            visit = visit._replace(form=await visit.request.post())
        return await page.answer(visit)

    async def _closed(
        self, page: Page, roles: Collection[Role], visit: Visit
    ) -> web.StreamResponse:
        visitor = visit.visitor
        if visitor is None:
            return _to_login(visit.request)
        client_is_known(visit.request)
        if not visitor.roles & frozenset(roles):
            raise faults.Forbidden(roles)
        person = visitor.person
        if isinstance(person, User) and person.must_change and page.path not in _OF_FIRST_PASSWORD:
            return see_other("/account", done="first")
        if page.method not in SAFE:
            if not is_same_origin(visit.request, self._console.options.public_origin):
                raise faults.ForeignForm
            if not page.is_streamed:
                visit = visit._replace(form=await visit.request.post())
                check_token(visit)
        return await page.answer(visit)

    def _check_host(self, request: web.Request) -> None:
        """Refuse other names of a loopback address: their pages would be of our origin."""
        options = self._console.options
        if options.is_secure or options.public_url is not None:
            return
        if urlsplit(f"//{request.host}").hostname not in LOOPBACK:
            raise Problem(
                421,
                "Call the console by 127.0.0.1 or localhost, or set SEGMENTS_CONSOLE_PUBLIC_URL",
            )


def check_token(visit: Visit) -> None:
    """
    Refuse a form without the session's token.

    Raises:
        ForeignForm: The form has no token, or another session's.
    """
    given = visit.request.headers.get(HEADER) or visit.text(FIELD)
    if not is_token_of(visit.known.token, given):
        raise faults.ForeignForm


def _to_login(request: web.Request) -> web.StreamResponse:
    if request.headers.get("HX-Request") == "true":
        # A part can't become a login: the whole page goes there.
        return web.Response(status=401, headers={"HX-Redirect": "/login"})
    if request.method not in SAFE:
        raise Problem(403, "Your login has ended, and nothing was changed. Log in again")
    # Names of ours alone: searched words stay out of the next URL.
    path = quote(request.path)
    answer = see_other("/login") if path == "/" else see_other("/login", next=path)
    answer.headers[hdrs.CACHE_CONTROL] = "no-store"
    return answer
