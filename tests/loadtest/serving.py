"""A server of its own threads, whose every answer the test decides."""

import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

HOST = "127.0.0.1"
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"

Reply = Callable[[int], bytes]


@contextmanager
def serving(reply: Reply, *, ends_behind: Collection[int] = ()) -> Iterator[int]:
    """
    Answer the n-th `REQUEST` of all connections with `reply(n)`, in pieces; empty closes.

    A connection ends behind the answers of `ends_behind`, without saying so before.

    Answers are made one at a time, as by a service on one core.
    """
    served = 0
    lock = threading.Lock()

    def serve(client: socket.socket) -> None:
        nonlocal served
        with client, suppress(ConnectionError):
            while client.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST:
                with lock:
                    served += 1
                    number, answer = served, reply(served)
                if not answer:
                    return
                client.sendall(answer[:20])
                client.sendall(answer[20:])
                if number in ends_behind:
                    return

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=serve, args=(client,))
                threads.append(thread)
                thread.start()

    threads: list[threading.Thread] = []
    with socket.create_server((HOST, 0)) as listening:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()
