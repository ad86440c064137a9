"""
Cross-site requests: another site's pages could use a logged-in user's cookie.

Browsers send a page's site in `Sec-Fetch-Site` (Fetch Metadata), older ones its `Origin` (Fetch
Standard), other programs neither. `SameSite=Strict` keeps the cookie from other sites, but not from
the site's other hosts, which may not be ours.
"""

from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from segments.doors.rest.problem import Problem

_SAFE: Final = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)
_OURS: Final = ("same-origin", "none")  # none: started by the user, as from a bookmark


def refuse_other_sites(request: web.Request) -> None:
    """
    Refuse a change by a page of another origin.

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
