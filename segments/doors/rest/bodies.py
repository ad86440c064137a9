"""
Bodies that are read into memory: limits of size, time and number.

    size     1 MiB for operations that need a caller, else 16 KiB; or the operation's own limit
    time     `WITHIN_S` after the head, however slowly bytes drip: 408
    number   applies above 16 KiB, per process. Unauthenticated: `STRANGERS_AT_ONCE`, above
             which 503. Authenticated: `KNOWN_AT_ONCE`, of these `OF_ONE_ACCOUNT` per account;
             the next is not read until there is room

A body counts until its request is answered. Uploads are streamed, with limits of their own
(`segments.doors.audience_api.upload_body`).
"""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType

from aiohttp import web

from segments.doors.rest.problem import Problem

MAX_BYTES = 1 << 20
SMALL_BYTES = 16 << 10
WITHIN_S = 30.0
STRANGERS_AT_ONCE = 20
KNOWN_AT_ONCE = 64
OF_ONE_ACCOUNT = 16


class Bodies:
    """The bodies that a process reads."""

    def __init__(self, within_s: float = WITHIN_S) -> None:
        """`within_s` is a body's time."""
        self.within_s = within_s
        self._known = asyncio.Semaphore(KNOWN_AT_ONCE)
        self._account_to_turns: dict[int | None, asyncio.Semaphore] = {}
        self._strangers = asyncio.Semaphore(STRANGERS_AT_ONCE)

    async def make_room(self, stack: AsyncExitStack, whose: "Sender | None") -> None:
        """
        Reserve room for a body that is not small, until the stack is closed.

        Raises:
            Problem: 503: no room for an unauthenticated sender.
        """
        if whose is None:
            if self._strangers.locked():
                raise Problem(
                    503,
                    f"{STRANGERS_AT_ONCE} requests with as long a body are under way; come again",
                    headers={"Retry-After": "1"},
                )
            await stack.enter_async_context(self._strangers)
            return
        turns = self._account_to_turns.setdefault(
            whose.account_id, asyncio.Semaphore(OF_ONE_ACCOUNT)
        )
        await stack.enter_async_context(turns)
        await stack.enter_async_context(self._known)


class Sender:
    """An authenticated sender; `account_id` is `None` for an operator's token."""

    def __init__(self, account_id: int | None) -> None:
        self.account_id = account_id


class Body:
    """A request's body; kept while the context is open."""

    def __init__(
        self, request: web.Request, bodies: Bodies, max_bytes: int, whose: Sender | None
    ) -> None:
        """`whose` is the sender; `None`: not authenticated."""
        self._request = request
        self._bodies = bodies
        self._max_bytes = max_bytes
        self._whose = whose
        self._room = AsyncExitStack()
        self._is_small = True
        self._read: bytes | None = None

    async def __aenter__(self) -> "Body":
        self._request[_BODY] = self
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._room.aclose()

    async def read(self) -> bytes:
        """
        Return the whole body, each time the same bytes.

        Raises:
            Problem: 400: the body broke off; 408, 413, 503.
        """
        if self._read is None:
            self._check_size(self._request.content_length or 0)
            try:
                async with asyncio.timeout(self._bodies.within_s):
                    self._read = await self._all()
            except TimeoutError:
                raise Problem(
                    408, f"the body did not come within {self._bodies.within_s:g} s"
                ) from None
            except (web.RequestPayloadError, ConnectionError):
                raise Problem(400, "the body broke off, or is not what its head says") from None
        return self._read

    async def _all(self) -> bytes:
        content = bytearray()
        while chunk := await self._request.content.readany():
            content += chunk
            self._check_size(len(content))
            if len(content) > SMALL_BYTES and self._is_small:
                self._is_small = False
                await self._bodies.make_room(self._room, self._whose)
        return bytes(content)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise Problem(413, f"a body of more than {self._max_bytes} bytes")


_BODY = web.RequestKey("body", Body)


async def body_of(request: web.Request) -> bytes:
    """
    Return the body of the request that an operation handles.

    Raises:
        Problem: 400, 408, 413, 503.
    """
    return await request[_BODY].read()
