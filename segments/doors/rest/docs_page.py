"""
`/docs`: the OpenAPI document as a self-contained HTML page.

The page fetches `/openapi.json` and nothing else; its headers forbid that, and framing.
"""

import base64
import hashlib
import re
from importlib.resources import files

from aiohttp import hdrs, web

_PAGE = (files("segments.doors.rest") / "docs_page.html").read_text()


def _hash_of(element: str) -> str:
    [inside] = re.findall(f"<{element}>(.*?)</{element}>", _PAGE, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    return f"'sha256-{digest}'"


_POLICY = (
    f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')};"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def browse(_: web.Request) -> web.Response:
    """Answer with the page."""
    return web.Response(
        text=_PAGE,
        content_type="text/html",
        headers={
            "Content-Security-Policy": _POLICY,
            hdrs.REFERRER_POLICY: "no-referrer",
        },
    )
