"""
Headers of all REST answers, and answers to requests that match no operation.

Unknown paths and wrong methods are answered in the nearest door's form, for a vendor's client.
"""

from collections.abc import Awaitable, Callable, Sequence
from operator import itemgetter

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from segments.doors.rest.door import Door
from segments.doors.rest.problem import Problem, problem_document

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def orderly(all_doors: Sequence[Door]) -> Middleware:
    """Make the middleware that answers unmatched requests and sets common headers."""

    @web.middleware
    async def answer_in_order(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            answer = await handler(request)
        except web.HTTPException as error:
            answer = _nowhere(all_doors, request, error)
        if answer.status == web.HTTPUnauthorized.status_code:
            answer.headers.setdefault(hdrs.WWW_AUTHENTICATE, "Bearer")
        answer.headers[hdrs.CACHE_CONTROL] = "no-store"
        if not request.content.at_eof():
            # Close, instead of reading the rest of the body.
            answer.force_close()
        return answer

    return answer_in_order


def _nowhere(
    all_doors: Sequence[Door], request: web.Request, error: web.HTTPException
) -> web.Response:
    """Answer in the form of the door with the longest matching path prefix."""
    allowed = error.headers.get(hdrs.ALLOW)
    detail = {
        404: "there is nothing at this path; /openapi.json lists what there is",
        405: f"this path takes {allowed}",
    }.get(error.status, "")
    problem = Problem(error.status, detail, headers={hdrs.ALLOW: allowed} if allowed else {})
    path = request.path.lower()
    beginnings = [
        (len(beginning), door)
        for door in all_doors
        for beginning in door.answers_below
        if path.startswith(beginning)
    ]
    if not beginnings:
        return problem_document(problem)
    _, door = max(beginnings, key=itemgetter(0))
    return door.problem(problem)
