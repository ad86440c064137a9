"""A file's bytes in the pieces that `Blobs.put` takes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from io import RawIOBase
from pathlib import Path
from typing import IO, Final

READ_BYTES: Final = 4 << 20


def chunks_of(file: IO[bytes] | RawIOBase) -> Iterator[bytes]:
    """Yield the rest of an open file."""
    while chunk := file.read(READ_BYTES):
        yield chunk


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yield a local file's bytes."""
    with path.open("rb") as file:
        yield from chunks_of(file)


async def in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield from a blocking iterator, each chunk made in a thread."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        if chunk:
            yield chunk
