"""Four hundred strangers at a door of a real process: what they make it hold, and for how long."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest

from tests.edge.test_rest import Api, api, shop

__all__ = ["api", "shop"]

STRANGERS = 400
_MAX_GROWTH_KB = 100 << 10
_WITHIN_S = 60

JSON = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
LOGIN = JSON % b"/login" + b'Content-Length: 1048576\r\n\r\n{"username":"' + b"a" * 900_000
CHUNKED = (
    JSON % b"/account/login"
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + (b"1000\r\n" + b"a" * 4096 + b"\r\n") * 200
)
SIGNED = JSON % b"/dsr" + b'Content-Length: 201000\r\n\r\n{"jwt":"' + b"a" * 190_000
PIXEL = b"GET /oath?dataSubjectRequest=" + b"a" * 200_000


@pytest.fixture
def strangers(api: Api) -> Iterator[list[socket.socket]]:
    """Connections of nobody."""
    port = urlsplit(api.url).port
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), _WITHIN_S))
            for _ in range(STRANGERS)
        ]


def send(client: socket.socket, sent: bytes) -> None:
    """Send as much as is taken: whoever is refused need not be heard to the end."""
    with suppress(OSError):
        client.sendall(sent)


def is_answered(client: socket.socket) -> bool:
    """Wait until the door has said something, or ended the connection."""
    try:
        client.recv(1)
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.long
def test_unfinished_requests_of_strangers_cost_little_memory_and_end(
    api: Api, strangers: list[socket.socket]
) -> None:
    """
    Of four kinds: two bodies of JSON that never end, signed requests, pixels.
    """
    before_kb = api.peak_memory_kb()
    began_s = time.monotonic()

    for number, client in enumerate(strangers):
        send(client, (LOGIN, CHUNKED, SIGNED, PIXEL)[number % 4])
    status, _ = api.curl(f"{api.url}/health/live")
    is_each_answered = [is_answered(client) for client in strangers]

    assert api.peak_memory_kb() - before_kb < _MAX_GROWTH_KB
    assert status == 200
    assert all(is_each_answered)
    assert time.monotonic() - began_s < _WITHIN_S
    assert "Traceback" not in api.log
    assert "can't be used" not in api.log
