"""
The sockets for bids: bound before any worker starts, and kept while workers come and go.

Each worker has its own on the same port; SO_REUSEPORT spreads connections. The supervisor owns
them: a port in use is a single error, and connections to a dead or drained worker wait for its
successor. The first worker listens once it can enrich: until then the kernel refuses clients, and a
balancer that knows nothing of health sends bids to another replica.
"""

import contextlib
import socket

BACKLOG = 4096
"""The accept queue's length; each `listen` must repeat it."""


class CannotListen(Exception):
    """A port can't be bound; the message says which, and why."""


def bound(host: str, port: int, workers: int) -> list[socket.socket]:
    """
    Bind a socket for each worker, all on one port.

    Raises:
        CannotListen: The port is in use, or binding is not permitted.
    """
    sockets: list[socket.socket] = []
    try:
        # Without SO_REUSEPORT first, against a second service.
        with contextlib.closing(_bound(host, port, is_shared=False)) as alone:
            port = alone.getsockname()[1]
        sockets.extend(_bound(host, port, is_shared=workers > 1) for _ in range(workers))
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
