"""
Health and metrics on the port of bids, for hosts that know no other port.

The worker asks its supervisor over an abstract unix socket. So the answer is the admin port's, for
all workers; the worker needs no library, and its bids are not delayed. An answer also shows that
the worker is alive.

Without a timely answer the worker says 503: only a supervisor restarts workers.
"""

import asyncio
import socket
from typing import Any, Final, NamedTuple

from httptools import HttpParserInvalidURLError, parse_url

from rtb.server.bids import Bid
from rtb.server.http import http11
from rtb.server.http.request_heads import Head

LIVE: Final = ("/health/live", "/heartbeat")
READY: Final = ("/health/ready", "/healthz", "/healthcheck")
METRICS: Final = "/metrics"

_WITHIN_S: Final = 0.9
"""Kubernetes gives a probe one second by default."""

_MOST: Final = 32
"""Pending questions to the supervisor; beyond: 503."""

_JSON: Final = b"application/json; charset=utf-8"
_NOT_GET: Final = http11.plain_head(405, b"Allow: GET, HEAD\r\n")


class _Answer(NamedTuple):
    status: int
    media_type: bytes
    body: bytes


_UNANSWERED: Final = _Answer(
    503, _JSON, b'{"status": "not_ready", "ready": false, "reason": "the supervisor is silent"}'
)


class Probes:
    """
    Answers probes beside a worker's bids.

    Args:
        address: Of the supervisor's socket.
        has_health: Whether to answer the health paths.
        has_metrics: Whether to answer the metrics path.
    """

    def __init__(self, address: bytes, *, has_health: bool, has_metrics: bool) -> None:
        paths = (*LIVE, *READY) if has_health else ()
        self._paths = {path.encode() for path in (*paths, *((METRICS,) if has_metrics else ()))}
        self._address = address
        self._asking: set[asyncio.Task[None]] = set()

    def take(self, turn: Bid, head: Head) -> bool:
        """Answer a probe's request, now or later; return whether the path is a probe's."""
        try:
            parts: Any = parse_url(head.url)
        except HttpParserInvalidURLError:
            return False
        path: bytes = parts.path or b""
        if path not in self._paths:
            return False
        if head.method not in (b"GET", b"HEAD"):
            turn.answer(_NOT_GET, b"")
        elif len(self._asking) >= _MOST:
            _give(turn, head, _UNANSWERED)
        else:
            names = {each.partition(b"=")[0] for each in (parts.query or b"").split(b"&")}
            target = path + (b"?strict" if b"strict" in names else b"")
            task = asyncio.get_running_loop().create_task(self._answer(turn, head, target))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return True

    async def _answer(self, turn: Bid, head: Head, target: bytes) -> None:
        try:
            async with asyncio.timeout(_WITHIN_S):
                answer = await self._ask(target)
        except (OSError, TimeoutError, ValueError):
            answer = _UNANSWERED
        if not turn.is_abandoned:
            _give(turn, head, answer)

    async def _ask(self, target: bytes) -> _Answer:
        """
        Ask the supervisor.

        Raises:
            OSError: The supervisor is gone.
            ValueError: The answer is incomplete.
        """
        reader, writer = await asyncio.open_unix_connection(sock=self._connected())
        try:
            writer.write(b"GET %b HTTP/1.1\r\nHost: _\r\nConnection: close\r\n\r\n" % target)
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        status, *lines = head.split(b"\r\n")
        fields = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines)
        }
        if int(fields.get(b"content-length", b"-1")) != len(body):
            raise ValueError
        return _Answer(int(status.split(b" ")[1]), fields[b"content-type"], body)

    def _connected(self) -> socket.socket:
        # By hand: to uvloop a path ends at our leading zero byte.
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.setblocking(False)
            one.connect(self._address)
        except OSError:
            one.close()
            raise
        return one


def _give(turn: Bid, head: Head, answer: _Answer) -> None:
    start = http11.plain_head(answer.status, b"Content-Type: %b\r\n" % answer.media_type)
    if head.method == b"GET":
        turn.answer(start, answer.body)
    elif turn.wants_gzip and len(answer.body) >= http11.MIN_GZIP_BYTES:
        # The gzip body has another length, which a HEAD may omit.
        turn.answer_nothing(start)
    else:
        turn.answer_nothing(start + b"Content-Length: %d\r\n" % len(answer.body))
