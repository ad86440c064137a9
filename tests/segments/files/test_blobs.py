import asyncio
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.files.blob import Blob
from segments.files.blobs import Blobs
from segments.files.chunks import file_chunks
from tests.kept_files import kept_files

CONTENT = os.urandom(3 << 20)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs.in_directory(tmp_path / "blobs")


async def in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 100_000):
        await asyncio.sleep(0)
        yield content[at : at + 100_000]


async def test_blob_is_what_was_put(blobs: Blobs) -> None:
    stored = await blobs.put("a/b", in_pieces(CONTENT))

    assert blobs.get("a/b").read() == CONTENT
    assert stored == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


async def test_empty_file_is_a_blob_too(blobs: Blobs) -> None:
    assert (await blobs.put("empty", [])).size_bytes == 0
    assert blobs.get("empty").read() == b""


async def test_local_file_is_put_as_it_is(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)

    await blobs.put("a", file_chunks(tmp_path / "file"))

    assert blobs.get("a").read() == CONTENT


async def test_upload_that_breaks_off_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield CONTENT
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.put("a", breaking())

    assert await blobs.names() == []
    assert kept_files(tmp_path) == []


async def test_what_a_killed_process_left_of_its_write_goes_when_it_is_old(
    blobs: Blobs, tmp_path: Path
) -> None:
    """
    obstore's own name for it, which no listing shows.
    """
    program = f"""
import asyncio, os, signal
from pathlib import Path
from segments.files.blobs import Blobs
from tests.kept_files import kept_files
from tests.kept_files import kept_files

async def chunks():
    for _ in range(4):
        yield bytes(6 << 20)
        await asyncio.sleep(0)
    while not any(Path({str(tmp_path)!r}).rglob("*#1")):
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
    yield b""

asyncio.run(Blobs.in_directory(Path({str(tmp_path / "blobs")!r})).put("a/b", chunks()))
"""
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=False)
    (left,) = kept_files(tmp_path)
    written_s = left.stat().st_mtime
    await blobs.put("a/whole", [b"x"])

    assert await blobs.names() == ["a/whole"]
    assert await blobs.delete_unfinished(written_s) == 0
    assert await blobs.delete_unfinished(written_s + 60) == 1
    assert [path.name for path in kept_files(tmp_path)] == ["whole"]


async def test_names_are_those_below_the_prefix(blobs: Blobs) -> None:
    for name in ("x/1", "x/2", "y/1"):
        await blobs.put(name, [b"1"])

    assert await blobs.names("x") == ["x/1", "x/2"]
    assert await blobs.names() == ["x/1", "x/2", "y/1"]


async def test_deleted_blob_is_gone_and_deleting_again_is_nothing(blobs: Blobs) -> None:
    await blobs.put("a", [b"1"])

    await blobs.delete("a")
    await blobs.delete("a")

    with pytest.raises(FileNotFoundError):
        blobs.get("a")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", ".."])
async def test_no_name_leads_out_of_the_directory(blobs: Blobs, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="path"):
        await blobs.put(name, [b"1"])

    assert list(tmp_path.rglob("outside")) == []


async def test_directory_is_for_nobody_else(blobs: Blobs, tmp_path: Path) -> None:
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "move", "end"]), st.integers(-10, 120), st.integers(0, 50)
        )
    )
)
def test_blob_reads_like_a_file(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    """
    `zipfile` and `gzip` take it for one.
    """
    content = CONTENT[:100]
    blobs = Blobs.in_directory(tmp_path_factory.mktemp("blobs"))
    asyncio.run(blobs.put("a", [content]))
    blob, file = blobs.get("a"), io.BytesIO(content)

    for whence, offset, size in steps:
        assert moved(blob, whence, offset) == moved(file, whence, offset)
        assert blob.read(size) == file.read(size)


def moved(file: Blob | io.BytesIO, whence: str, offset: int) -> int:
    base = {"set": 0, "move": file.tell(), "end": 100}[whence]
    if base + offset < 0:
        if isinstance(file, Blob):
            with pytest.raises(OSError, match="before the beginning"):
                file.seek(offset, {"set": 0, "move": 1, "end": 2}[whence])
        return file.tell()
    return file.seek(offset, {"set": 0, "move": 1, "end": 2}[whence])
