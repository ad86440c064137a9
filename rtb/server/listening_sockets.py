"""
The sockets that bids come in by: bound before any worker starts, kept while workers come and go.

One for each worker, all on one port (SO_REUSEPORT spreads the connections). They
belong to the supervisor, so a port in use is one clear line and not N, and whoever
connects while nobody accepts, for a worker died or has drained, waits for the next.
"""

import contextlib
import socket

BACKLOG = 4096
"""Clients that may wait to be accepted; whoever listens on a socket anew must say it again."""


class CannotListen(Exception):
    """A port can't be had; the message says which, and why."""


def listen(host: str, port: int, workers: int) -> list[socket.socket]:
    """
    Bind a socket for each worker, all to one port.

    Raises:
        CannotListen: It is in use, or not ours to use.
    """
    sockets: list[socket.socket] = []
    try:
        # Alone first: to a second service, SO_REUSEPORT would just give the port as well.
        with contextlib.closing(_bound(host, port, is_shared=False)) as alone:
            port = alone.getsockname()[1]
        for _ in range(workers):
            sockets.append(_bound(host, port, is_shared=workers > 1))
            sockets[-1].listen(BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        raise CannotListen(f"can't listen on {host}:{port}: {error.strerror}") from None
    return sockets


def _bound(host: str, port: int, *, is_shared: bool) -> socket.socket:
    family, *_, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one
