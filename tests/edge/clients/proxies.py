"""Proxies between a client and the service: a slow line, and a tunnel for HTTPS."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def delaying(port: int, delay_s: float) -> Iterator[int]:
    """Give the port of a proxy that hands everything on after a while, each way."""
    with _accepting(lambda near: _join(near, port, delay_s)) as own_port:
        yield own_port


@contextmanager
def tunnelling(port: int) -> Iterator[int]:
    """
    Give the port of an HTTP proxy whose every tunnel ends at one port of this machine.

    What a client is told by HTTPS_PROXY; it believes that it speaks with its vendor.
    """

    def open_tunnel(near: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(1 << 12) or b"\r\n\r\n"
        assert head.startswith(b"CONNECT "), head[:20]
        near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        _join(near, port, 0)

    with _accepting(open_tunnel) as own_port:
        yield own_port


@contextmanager
def _accepting(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    near, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(near,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def _join(near: socket.socket, port: int, delay_s: float) -> None:
    far = socket.create_connection(("127.0.0.1", port))
    back = threading.Thread(target=_pump, args=(far, near, delay_s), daemon=True)
    back.start()
    _pump(near, far, delay_s)
    back.join()
    for each in (near, far):
        each.close()


def _pump(source: socket.socket, sink: socket.socket, delay_s: float) -> None:
    waited = threading.Event()
    try:
        while data := source.recv(1 << 16):
            waited.wait(delay_s)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
