"""
CORS for uploads (Fetch Standard): the other origins whose pages may PUT a file.

The URL is the permission, so no cookie is sent or needed. Other paths and origins get no CORS
header, and browsers refuse.
"""

from collections.abc import Collection
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from segments.files.blobs import UPLOADS

_PREFLIGHT_S: Final = 600


def cross_origin(origins: Collection[str]) -> Middleware:
    """
    Make the middleware that lets pages of other origins PUT to an upload URL.

    `origins` are as in browsers' `Origin`: scheme, host and port.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or origin not in origins or f"/{UPLOADS}/" not in request.path:
            return await handler(request)
        if (
            request.method == hdrs.METH_OPTIONS
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        ):
            answer: web.StreamResponse = web.Response(status=204)
            answer.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = hdrs.METH_PUT
            asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS)
            if asked is not None:
                answer.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
            answer.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_S)
        else:
            answer = await handler(request)
        answer.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        answer.headers.add(hdrs.VARY, hdrs.ORIGIN)
        return answer

    return middleware
