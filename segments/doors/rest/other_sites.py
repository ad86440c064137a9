"""
Requests that a page of another site has a browser send, along with the cookie of who is logged in.

A browser says where a page is from: in `Sec-Fetch-Site` (Fetch Metadata), or in `Origin` where
it is older (Fetch Standard). `SameSite=Strict` leaves such requests without the cookie, but for
pages of other hosts of the same site, which may be somebody else's. Programs say neither.
"""

from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from segments.doors.rest.problem import Problem

_SAFE: Final = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)
_OURS: Final = ("same-origin", "none")  # none: the person's own doing, such as a bookmark


def refuse_other_sites(request: web.Request) -> None:
    """
    Let a request pass that changes nothing, or that no page of another origin has sent.

    Raises:
        Problem: 403.
    """
    if request.method in _SAFE:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get(hdrs.ORIGIN)
    if site is not None:
        is_ours = site in _OURS
    else:
        is_ours = origin is None or urlsplit(origin).netloc == request.host
    if not is_ours:
        raise Problem(403, "a page of another site has sent this; a cookie is for our own alone")
