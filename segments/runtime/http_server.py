"""
The HTTP server of all our aiohttp ports.

Malformed bytes still belong to a client: bearer tokens, cookies, hashes, JWTs, lines of a file.
aiohttp quotes them in its answers, and logs them with the client's address. Our ports do neither:

    malformed bytes                        400, in words of ours
    a head of more than `MAX_HEAD_BYTES`   431, as soon as so many bytes have arrived
    a head that is incomplete in time      408
    a handler that fails                   500; the type and the place of the error are logged
    any answer                             without `Server`, and without an access log; `nosniff`

A path may be allowed a longer head: a pixel carries a signed request in its URL. At most
`MAX_LONG_HEADS` exist at a time, each from its first excess byte until its answer; a further one
gets 503.

A stranger is the client of a connection that is idle, or whose request has not identified it
(`client_is_known`). `http_limits` has the limits on strangers, `http_site` on clients in the TLS
handshake.
"""

from collections.abc import Mapping
from ssl import SSLContext
from typing import Any

from aiohttp import web

from segments.runtime.http_connection import Connection, Server
from segments.runtime.http_limits import Limits
from segments.runtime.http_refusals import MAX_HEAD_BYTES, MAX_LONG_HEADS
from segments.runtime.http_site import Site

__all__ = ["MAX_HEAD_BYTES", "MAX_LONG_HEADS", "client_is_known", "listen", "runner_of"]


def runner_of(
    app: web.Application,
    *,
    long_heads: Mapping[str, int] | None = None,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    **options: Any,
) -> web.AppRunner:
    """
    Make a runner for an application that keeps this module's law.

    `long_heads`: `GET` paths with a longer head -> bytes allowed; `options` are `AppRunner`'s.
    """
    app.on_response_prepare.append(_let_nothing_be_guessed)
    return _Runner(app, long_heads or {}, limits, options)


async def listen(
    runner: web.AppRunner, host: str, port: int, context: SSLContext | None = None
) -> int:
    """
    Serve a runner of `runner_of`, set up, until its `cleanup`; return the port.

    Port 0 takes a free one; without `context`, plain HTTP.

    Raises:
        OSError: The port is unavailable.
    """
    await Site(runner, host, port, context).start()
    bound: int = runner.addresses[0][1]
    return bound


def client_is_known(request: web.BaseRequest) -> None:
    """Note that a request has identified its client, until its answer."""
    if isinstance(request.protocol, Connection):
        request.protocol.client_is_known()


class _Runner(web.AppRunner):
    __slots__ = ("_limits", "_long_heads", "_options")

    def __init__(
        self,
        app: web.Application,
        long_heads: Mapping[str, int],
        limits: Limits,
        options: Mapping[str, Any],
    ) -> None:
        most = max(long_heads.values(), default=MAX_HEAD_BYTES)
        self._long_heads = long_heads
        self._limits = limits
        # We count bytes ourselves.
        self._options = {
            **options,
            "access_log": None,
            "read_bufsize": limits.unread_bytes,
            "max_line_size": most,
            "max_field_size": MAX_HEAD_BYTES,
            "max_headers": MAX_HEAD_BYTES,
        }
        super().__init__(app, **self._options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        shutdown = ("handle_signals", "shutdown_timeout")
        options = {name: self._options[name] for name in self._options if name not in shutdown}
        return Server(made, self._long_heads, self._limits, options)


async def _let_nothing_be_guessed(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers["X-Content-Type-Options"] = "nosniff"
