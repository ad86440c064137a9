"""
How the lookup's link reaches the store, from the same URL as everything else.

redis-py reads the URL, its user, password, database and TLS options; we only
open the connection, because the link's protocol is our own.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from rtb.link import Command
from rtb.lookup import Dial
from segments.store.connection import connect


class Door(NamedTuple):
    """How to open a connection to the store, and what to say first on it."""

    dial: Dial
    greeting: tuple[Command, ...]


def door_of(url: str) -> Door:
    """
    Read where the store is.

    Args:
        url: `redis://`, `rediss://` or `unix://`.

    Raises:
        segments.store.reader.StoreUnusable: None of these.
    """
    end = connect(url).connection_pool.make_connection()  # type: ignore[no-untyped-call] # redis-py
    greeting: list[Command] = []
    if end.password:
        user = (end.username.encode(),) if end.username else ()
        greeting.append((b"AUTH", *user, end.password.encode()))
    if end.db:
        greeting.append((b"SELECT", b"%d" % int(end.db)))
    dial = _unix(end) if isinstance(end, UnixDomainSocketConnection) else _tcp(end)
    return Door(dial, tuple(greeting))


def _unix(end: UnixDomainSocketConnection) -> Dial:
    async def dial(link: Callable[[], asyncio.Protocol]) -> None:
        await asyncio.get_running_loop().create_unix_connection(link, end.path)

    return dial


def _tcp(end: Connection) -> Dial:
    async def dial(link: Callable[[], asyncio.Protocol]) -> None:
        # The name is resolved anew each time: a failover may have moved it.
        transport, _ = await asyncio.get_running_loop().create_connection(
            link,
            end.host,
            int(end.port),
            ssl=end.ssl_context.get() if isinstance(end, SSLConnection) else None,
            server_hostname=end.host if isinstance(end, SSLConnection) else None,
        )
        # Without TLS the event loop has done so; through TLS it can't be seen.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    return dial
