"""A partner at the REST doors whose client does not give up, but on some files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import aiohttp
from yarl import URL

from tests.faults.host import PASSWORD, UPLOADED, UPLOADER

_PIECES = 8
_PAUSE_S = 0.03
_AGAIN_S = 0.05


class _BrokenOff(Exception):
    """The client's own end, in the midst of a file."""


class Uploader:
    """
    Uploads one file after another, slowly, each until it is acknowledged.

    A file is acknowledged by 200; or, where the answer was lost with the server,
    by 409 when it is put once more. Every third is broken off for good.
    """

    def __init__(self, url: str, next_file: Callable[[], bytes], rng: Random) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self.broken_off: list[str] = []
        self.tries = 0
        self.is_sending = asyncio.Event()
        self._url = url
        self._next_file = next_file
        self._rng = rng
        self._headers: dict[str, str] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Upload until told to stop, and then what was begun to its end."""
        async with aiohttp.ClientSession() as session:
            said = {"username": UPLOADER, "password": PASSWORD}
            token = (await self._ask(session, "/login", said))["token"]
            self._headers = {"Authorization": f"bearer {token}"}
            while not stopping.is_set():
                await self._upload(session, self._next_file())

    async def _upload(self, session: aiohttp.ClientSession, content: bytes) -> None:
        form = {"filename": "a.txt", "action": "add", "type": "sha2"}
        presigned = await self._ask(session, f"/audience/upload/{UPLOADED}", form)
        url = URL(presigned["output"]["presignedURI"], encoded=True)
        if self._rng.random() < 1 / 3:
            await self._put(session, url, content, break_off=True)
            self.broken_off.append(presigned["requestId"])
            return
        while await self._put(session, url, content) not in (200, 409):  # noqa: ASYNC110 - a client
            await asyncio.sleep(_AGAIN_S)
        self.acknowledged[presigned["requestId"]] = content

    async def _put(
        self, session: aiohttp.ClientSession, url: URL, content: bytes, *, break_off: bool = False
    ) -> int | None:
        """Return the status; `None` if there was none."""
        self.tries += 1
        pieces = self._pieces(content, break_off)
        headers = {"Content-Length": str(len(content))}
        try:
            async with session.put(url, data=pieces, headers=headers) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, _BrokenOff):
            return None
        finally:
            self.is_sending.clear()

    async def _pieces(self, content: bytes, break_off: bool) -> AsyncIterator[bytes]:
        size = len(content) // _PIECES + 1
        for at in range(0, len(content), size):
            yield content[at : at + size]
            self.is_sending.set()
            await asyncio.sleep(_PAUSE_S)
            if break_off and at > len(content) // 2:
                raise _BrokenOff

    async def _ask(self, session: aiohttp.ClientSession, path: str, body: Any) -> Any:
        """Ask until there is an answer."""
        while True:
            try:
                async with session.post(
                    self._url + path, json=body, headers=self._headers
                ) as answer:
                    assert answer.status == 200, await answer.text()
                    return await answer.json()
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(_AGAIN_S)
