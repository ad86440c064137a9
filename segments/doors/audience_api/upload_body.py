"""
A file in the body of a request: streamed, bounded, and stored whole or not at all.

`Expect: 100-continue` is answered only after authorization. A client is cut off after
`SILENT_FOR_S` without a byte, and after `TAKES_AT_MOST_S`.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable

from aiohttp import hdrs, web

from segments.doors.audience_api.checksums import Checksums
from segments.doors.rest.problem import Problem
from segments.files.blobs import Blobs, Stored
from segments.model.day import S_PER_DAY

SILENT_FOR_S = 60.0
TAKES_AT_MOST_S = float(S_PER_DAY)
"""An older upload is abandoned, and may be swept."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def check_announced(request: web.Request, max_bytes: int) -> None:
    """
    Refuse an upload by its headers, before the body is read.

    Raises:
        Problem: 413, 417.
    """
    if request.content_length is not None and request.content_length > max_bytes:
        raise Problem(413, f"a file of more than {max_bytes} bytes")
    if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
        raise Problem(417, "an expectation other than 100-continue")


class Incoming:
    """A request's body for the blob store."""

    def __init__(
        self,
        request: web.Request,
        max_bytes: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Raises:
            Problem: 400: the headers contradict a whole, plain body.
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
            Problem: 400 if the body broke off, is empty or contradicts its headers, 408, 413;
                the blob then does not exist.
            OSError, obstore.exceptions.BaseError: The blob can't be stored now.
        """
        try:
            return await blobs.put(name, self._chunks())
        except Exception:
            # obstore may wrap an exception of the iterator: raise the original.
            if self._fault is None:
                raise
            fault = self._fault
        raise fault

    async def sha256(self) -> str:
        """
        Return the SHA-256 of the body in hex; store nothing.

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
            # Otherwise aiohttp takes the answer's head for sent.
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
        except Exception as error:  # noqa: BLE001 - a body can break off in many ways
            fault = Problem(400, f"the body broke off ({type(error).__name__})")
        raise self._failed(fault)

    def _failed(self, fault: Problem) -> Problem:
        self._fault = fault
        return fault
