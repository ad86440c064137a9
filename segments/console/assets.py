"""
The console's scripts and its sheet, each under a path with its own hash.

Browsers keep each path for good; a new release has new hashes. Nothing comes from elsewhere.
"""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

PREFIX: Final = "/assets/"
_HASH_CHARS = 16

_NAME_TO_TYPE: Final = {
    "style.css": "text/css",
    "htmx-4.0.1.min.js": "text/javascript",
    "console.js": "text/javascript",
    "upload.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Assets:
    """The files, read once."""

    def __init__(self) -> None:
        folder = files("segments.console") / "static"
        self._path_to_answer: dict[str, tuple[bytes, str]] = {}
        self._name_to_path: dict[str, str] = {}
        for name, media_type in _NAME_TO_TYPE.items():
            content = (folder / name).read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:_HASH_CHARS]
            path = f"{PREFIX}{digest}/{name}"
            self._path_to_answer[path] = (content, media_type)
            self._name_to_path[name] = path

    @property
    def paths(self) -> Mapping[str, str]:
        """Name -> path."""
        return self._name_to_path

    async def serve(self, request: web.Request) -> web.Response:
        """Answer a path of `paths`."""
        found = self._path_to_answer.get(request.path)
        if found is None:
            raise web.HTTPNotFound
        content, media_type = found
        answer = web.Response(body=content, content_type=media_type, charset="utf-8")
        answer.headers[hdrs.CACHE_CONTROL] = "public, max-age=31536000, immutable"
        answer.enable_compression()
        return answer
