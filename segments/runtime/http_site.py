"""
A listening port: accepts clients, and limits the time of the TLS handshake.

`asyncio.create_server` reports a client only after the handshake: until then it holds 300 kB for a
minute, uncounted. So clients are accepted here, and counted as strangers at once.
"""

import asyncio
import contextlib
import errno
import socket
from ssl import SSLContext

from aiohttp import web

from segments.runtime.http_connection import Server, Stranger

_BACKLOG = 128

_GOODBYE_WITHIN_S = 5.0
"""TLS's time to end."""

_AGAIN_AFTER_S = 0.5
"""Pause in accepting, after descriptors ran out."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Site(web.BaseSite):
    """A port that serves a runner's application."""

    __slots__ = ("_accepting", "_greeting", "_host", "_listening", "_port", "_web")

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, context: SSLContext | None
    ) -> None:
        super().__init__(runner, ssl_context=context)
        assert isinstance(runner.server, Server), "a runner of ours"
        self._web = runner.server
        self._host = host
        self._port = port
        self._listening: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._greeting: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The site's name for aiohttp."""
        return f"{self._host}:{self._port}"

    async def start(self) -> None:
        """
        Listen, and begin to accept.

        Raises:
            OSError: The port is unavailable.
        """
        await super().start()
        # Binds all addresses of the host.
        self._server = await asyncio.get_running_loop().create_server(
            self._web, self._host, self._port, start_serving=False
        )
        for bound in self._server.sockets:
            listening = bound.dup()
            listening.setblocking(False)
            listening.listen(_BACKLOG)
            self._listening.append(listening)
            self._accepting.append(asyncio.create_task(self._accept(listening)))

    async def stop(self) -> None:
        """Stop accepting; drop clients in the TLS handshake."""
        tasks = [*self._accepting, *self._greeting]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for listening in self._listening:
            listening.close()
        await super().stop()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._web.note(f"no client can be accepted: {errno.errorcode[error.errno]}")
                    await asyncio.sleep(_AGAIN_AFTER_S)
                continue  # or that client has gone already
            task = asyncio.create_task(self._greet(client, str(address[0])))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, client: socket.socket, address: str) -> None:
        """Hand a client to the server, after any TLS handshake."""
        loop, context = asyncio.get_running_loop(), self._ssl_context
        if context is None:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._web, client)
            return
        handshake = _Handshake(client)
        self._web.meet(handshake, address)
        try:
            await loop.connect_accepted_socket(
                self._web,
                client,
                ssl=context,
                ssl_handshake_timeout=self._web.limits.head_within_s,
                ssl_shutdown_timeout=_GOODBYE_WITHIN_S,
            )
        except OSError:  # includes TLS errors and timeouts
            pass
        finally:
            self._web.is_met(handshake)


class _Handshake(Stranger):
    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def leave(self) -> None:
        """End the connection, as if the client had gone."""
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
