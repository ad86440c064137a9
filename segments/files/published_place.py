"""
The bucket or directory of a publication, for writing and following.

    file:///DIRECTORY    s3://BUCKET/PREFIX    gs://BUCKET/PREFIX    az://CONTAINER/PREFIX

A bucket's credentials and options come from the environment, as for its own tools. A file appears
whole or not at all; only `LATEST` is rewritten.

Reads have a time limit, because a mount without its server never answers. The blocked thread stays
in the kernel, so a directory with several gets no more questions.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from segments.files.obstore_errors import Right, RightMissing, naming

T = TypeVar("T")

WITHIN_S: Final = 60.0
"""Of an answer, and of a piece of a file."""

_PIECE_BYTES: Final = 8 << 20
_MOST_UNANSWERED: Final = 4


class PlaceUnusable(Exception):
    """The URL is unusable; the message says why, without secrets."""


class PlaceAway(Exception):
    """The place failed; try again. The message has the kind."""


class NotThere(PlaceAway):
    """The place has no file of that name."""


class NoAnswer(PlaceAway):
    """The place did not answer in time."""


class WrongSize(PlaceAway):
    """A file is too long, or of another size than announced."""


class PublishedPlace:
    """
    All files of a place, in a form of the module's.

    `is_made` creates a missing directory; `within_s` limits an answer, and a piece of a file.

    Raises:
        PlaceUnusable: The URL has another form, or can't be opened.
    """

    def __init__(self, url: str, *, is_made: bool = False, within_s: float = WITHIN_S) -> None:
        self._directory = _directory_of(url)
        self._within_s = within_s
        self._unanswered: set[asyncio.Future[Any]] = set()
        self._opened: ObjectStore | None = None
        try:
            if self._directory is None:
                # With client options obstore would ignore the environment's.
                self._opened = from_url(url, retry_config={"max_retries": 2})
            elif is_made:
                self._directory.mkdir(parents=True, exist_ok=True)
        except (BaseError, ValueError, OSError) as error:
            # obstore's message may quote secrets.
            raise PlaceUnusable(
                f"no bucket and no directory can be opened by this URL ({type(error).__name__})"
            ) from None

    async def read(self, name: str, max_bytes: int) -> bytes:
        """
        Read a small file.

        Raises:
            NotThere, WrongSize, PlaceAway: The file can't be read.
        """
        store = await self._store()
        result = await self._answered(lambda: obstore.get_async(store, name))
        if result.meta["size"] > max_bytes:
            raise WrongSize(f"it has more than {max_bytes} bytes")
        return bytes(await self._answered(result.bytes_async))

    async def fetch(self, name: str, size_bytes: int, to: Path) -> None:
        """
        Copy a file of known size to a local path, each piece within the time limit.

        Raises:
            NotThere, WrongSize, PlaceAway: The file can't be read.
            OSError: The local file can't be written.
        """
        with to.open("wb") as file:
            async with aclosing(self._pieces(name, size_bytes)) as pieces:
                async for piece in pieces:
                    file.write(piece)

    async def sha256(self, name: str, size_bytes: int) -> str:
        """
        Return the SHA-256 of a file of a known size, in hex.

        Raises:
            NotThere, WrongSize, PlaceAway: The file can't be read.
        """
        content = sha256()
        async with aclosing(self._pieces(name, size_bytes)) as pieces:
            async for piece in pieces:
                content.update(piece)
        return content.hexdigest()

    async def _pieces(self, name: str, size_bytes: int) -> AsyncGenerator[bytes]:
        store = await self._store()
        for start in range(0, size_bytes, _PIECE_BYTES):
            end = min(start + _PIECE_BYTES, size_bytes)
            try:
                size, piece = await self._answered(partial(_piece, store, name, start, end))
            except (NotThere, NoAnswer):
                raise
            except PlaceAway:
                # Beyond a file's end is an error.
                meta = await self._answered(lambda: obstore.head_async(store, name))
                if meta["size"] == size_bytes:
                    raise
                size, piece = meta["size"], b""
            if size != size_bytes:
                raise WrongSize(f"it has {size} bytes instead of {size_bytes}")
            yield piece

    async def put(self, name: str, content: bytes | Path) -> None:
        """
        Write a file, whole.

        Raises:
            PlaceAway: The file can't be written.
        """
        store = await self._store()
        await self._answered(
            lambda: obstore.put_async(store, name, content), Right.WRITE, is_patient=True
        )

    async def names(self) -> list[str]:
        """
        Return the names of all files.

        Raises:
            PlaceAway: The place can't be listed.
        """
        found: list[str] = []
        store = await self._store()

        async def listed() -> None:
            async for entries in obstore.list(store):
                found.extend(entry["path"] for entry in entries)

        await self._answered(listed, Right.LIST)
        return found

    async def delete(self, name: str) -> None:
        """
        Delete a file, if it exists.

        Raises:
            PlaceAway: The file can't be deleted.
        """
        store = await self._store()
        with suppress(NotThere):
            await self._answered(lambda: obstore.delete_async(store, name), Right.DELETE)

    async def _store(self) -> ObjectStore:
        """Return the opened place; a directory may be mounted later."""
        if self._opened is None:
            assert self._directory is not None, "buckets are opened at once"
            try:
                self._opened = await self._answered(partial(_local_store, self._directory))
            except PlaceAway as error:
                if isinstance(error, NoAnswer):
                    raise
                raise NotThere("no such directory") from None
        return self._opened

    async def _answered(
        self,
        ask: Callable[[], Awaitable[T]],
        right: Right = Right.READ,
        *,
        is_patient: bool = False,
    ) -> T:
        """Put a question, and wait for its answer; patiently without a limit."""
        if len(self._unanswered) >= _MOST_UNANSWERED:
            raise NoAnswer("earlier questions are unanswered")
        asking = asyncio.ensure_future(ask())
        try:
            done, _ = await asyncio.wait({asking}, timeout=None if is_patient else self._within_s)
            if not done:
                self._leave(asking)
                raise NoAnswer("no answer in time")
            with naming(right) if self._directory is None else nullcontext():
                return asking.result()
        except asyncio.CancelledError:
            asking.cancel()
            raise
        except FileNotFoundError:
            raise NotThere("no such file") from None
        except RightMissing as error:
            raise PlaceAway(f"it {error}") from None
        except (BaseError, OSError, ValueError) as error:
            # obstore's message has the URL, maybe with a signature.
            raise PlaceAway(type(error).__name__) from None

    def _leave(self, asking: "asyncio.Future[Any]") -> None:
        """Stop waiting; a bucket's client gives up by itself."""
        if self._directory is None:
            asking.cancel()
            return
        self._unanswered.add(asking)

        def forget(asking: "asyncio.Future[Any]") -> None:
            self._unanswered.discard(asking)
            if not asking.cancelled():
                asking.exception()  # retrieved, so that asyncio does not log it

        asking.add_done_callback(forget)


async def _local_store(directory: Path) -> LocalStore:
    """
    Open a directory, looked up in a thread first: opening could hang the process with the mount.

    The thread is not awaited at the process's end.
    """
    loop = asyncio.get_running_loop()
    looked: asyncio.Future[None] = loop.create_future()

    def tell(error: OSError | None) -> None:
        if not looked.done():
            looked.set_result(None) if error is None else looked.set_exception(error)

    def look() -> None:
        found: OSError | None = None
        try:
            directory.stat()
        except OSError as error:
            found = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=look, name="looks up a mount", daemon=True).start()
    await looked
    return LocalStore(directory)


async def _piece(store: ObjectStore, name: str, start: int, end: int) -> tuple[int, bytes]:
    """Return the size of a file, and a piece of it."""
    result = await obstore.get_async(store, name, options={"range": (start, end)})
    return result.meta["size"], bytes(await result.bytes_async())


def _directory_of(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "file":
        if not parts.scheme or not parts.netloc:
            raise PlaceUnusable("not a URL: file:///DIRECTORY, s3://, gs:// or az:// with a bucket")
        return None
    directory = Path(unquote(parts.path))
    if parts.netloc or not directory.is_absolute():
        raise PlaceUnusable("not of the form file:///DIRECTORY")
    return directory
