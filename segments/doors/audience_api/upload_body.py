"""
A file that comes in the body of a request: streamed, bounded, and whole or not at all.

Nothing is answered to `Expect: 100-continue` until whoever sends has been found
to be allowed to: `curl` sends none of its 5 GB for nothing. A sender who falls
silent is not waited for longer than `SILENT_FOR_S`, nor one who dribbles longer
than `TAKES_AT_MOST_S`.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable

from aiohttp import hdrs, web
from obstore.exceptions import BaseError

from segments.doors.audience_api.checksums import Checksums
from segments.doors.rest.problem import Problem
from segments.files.blobs import Blobs, Stored
from segments.model.day import S_PER_DAY

SILENT_FOR_S = 60.0
TAKES_AT_MOST_S = float(S_PER_DAY)
"""What was begun longer ago is nobody's upload any more, and may be swept."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def check_announced(request: web.Request, max_bytes: int) -> None:
    """
    Refuse what need not be read to be refused.

    Raises:
        Problem: 413, 417.
    """
    if request.content_length is not None and request.content_length > max_bytes:
        raise Problem(413, f"a file of more than {max_bytes} bytes")
    if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
        raise Problem(417, "an expectation other than 100-continue")


class Incoming:
    """The body of one request, on its way to the blob store."""

    def __init__(
        self,
        request: web.Request,
        max_bytes: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Raises:
            Problem: 400: what the headers say of the body can't be.
        """
        self._request = request
        self._max_bytes = max_bytes
        self._clock_s = clock_s
        self._fault: Problem | None = None
        self._checksums = Checksums(request.headers)

    async def into(self, blobs: Blobs, name: str) -> Stored:
        """
        Write the body as a blob.

        Raises:
            Problem: 400 if it broke off, is empty or is not what its headers say, 408, 413,
                or 503 if it can't be kept; then there is no such blob.
        """
        try:
            return await blobs.put(name, self._chunks())
        except (BaseError, OSError) as error:
            fault = self._fault or Problem(
                503, f"the file can't be kept now ({type(error).__name__})"
            )
        except Exception:
            # As the iterator raised it; which is how it comes back depends on obstore.
            if self._fault is None:
                raise
            fault = self._fault
        raise fault

    async def sha256(self) -> str:
        """
        Return the SHA-256 of the body, in hex, and keep nothing.

        Raises:
            Problem: 400, 408 or 413, as `into`.
        """
        digest = hashlib.sha256()
        async for chunk in self._chunks():
            digest.update(chunk)
        return digest.hexdigest()

    async def _chunks(self) -> AsyncIterator[bytes]:
        if hdrs.EXPECT in self._request.headers:
            await self._request.writer.write(_CONTINUE)
            # The head of the answer is still to come.
            self._request.writer.output_size = 0
        size_bytes, give_up_s = 0, self._clock_s() + TAKES_AT_MOST_S
        while chunk := await self._next():
            size_bytes += len(chunk)
            if size_bytes > self._max_bytes:
                raise self._failed(Problem(413, f"a file of more than {self._max_bytes} bytes"))
            if self._clock_s() > give_up_s:
                raise self._failed(Problem(408, f"not done within {TAKES_AT_MOST_S:.0f} s"))
            self._checksums.update(chunk)
            yield chunk
        if not size_bytes:
            raise self._failed(Problem(400, "an empty body: send the file"))
        try:
            self._checksums.check()
        except Problem as problem:
            raise self._failed(problem) from None

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(SILENT_FOR_S):
                return await self._request.content.readany()
        except TimeoutError:
            fault = Problem(408, f"nothing came for {SILENT_FOR_S:.0f} s")
        except Exception as error:  # noqa: BLE001 - whichever way a body can break off
            fault = Problem(400, f"the body broke off ({type(error).__name__})")
        raise self._failed(fault)

    def _failed(self, fault: Problem) -> Problem:
        self._fault = fault
        return fault
