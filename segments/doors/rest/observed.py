"""
Each request of a site, seen from outside: its id, its span, and its count.

The id is in the answer and in all lines logged meanwhile. Span and count are named by door and
operation: paths may hold names of people.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from segments.doors.rest.services import Services
from segments.runtime import log_lines
from segments.runtime.spans import Spans

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPERATION: Final = web.RequestKey("operation", tuple[str, str])
"""Door and operation of a request; absent outside all doors."""

_REQUEST_ID: Final = web.RequestKey("request_id", str)
_NONE: Final = ("none", "none")
_CLIENT_LEFT: Final = 499
"""The status of a request whose client leaves before the answer."""


def observing(services: Services, spans: Spans) -> list[Middleware]:
    """Return the middlewares, to be put before all others."""
    traced = [_traced(spans)] if spans.are_made else []
    return [_identified, *traced, _counted(services)]


async def say_request_id(request: web.Request, answer: web.StreamResponse) -> None:
    """Put a request's id into its answer; to be called before the head is written."""
    if _REQUEST_ID in request:
        answer.headers[log_lines.REQUEST_ID_HEADER] = request[_REQUEST_ID]


@web.middleware
async def _identified(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give a request an id, for its answer and its log lines."""
    with log_lines.request() as request_id:
        request[_REQUEST_ID] = request_id
        return await handler(request)


def _traced(spans: Spans) -> Middleware:
    """Make a span of each request, below its sender's."""

    @web.middleware
    async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
        with spans.around("request", request.headers) as note:
            status = _CLIENT_LEFT
            try:
                answer = await handler(request)
                status = answer.status
                return answer
            except web.HTTPException as error:
                status = error.status
                raise
            finally:
                door, operation = request.get(OPERATION, _NONE)
                method = request.method if door != "none" else "_OTHER"
                note(
                    f"{door} {operation}",
                    {"http.request.method": method, "http.response.status_code": status},
                )

    return traced


def _counted(services: Services) -> Middleware:
    """Count each request, however it ends."""
    metrics, clock_s = services.metrics, services.clock_s

    @web.middleware
    async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
        began_s, status = clock_s(), _CLIENT_LEFT
        metrics.in_flight.inc()
        try:
            answer = await handler(request)
            status = answer.status
            return answer
        finally:
            metrics.in_flight.dec()
            metrics.answered(
                request.get(OPERATION),
                status,
                received_bytes=request.content.total_bytes,
                seconds=clock_s() - began_s,
            )

    return counted
