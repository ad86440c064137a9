"""A file that a thread writes is the file that its writer would have written at once."""

import asyncio
from io import BytesIO
from pathlib import Path

import pytest

from segments.model.catalog import CatalogSnapshot
from segments.model.record import OptOutAction
from segments.publish import spooled_file
from segments.publish.spooled_file import spooled
from segments.store.published.form import Bucket, FileReader, FileWriter, Header, PublishedOptOut

HEADER = Header(ledger="l", number=2, behind=1, made_at_s=1.0, opt_outs=3, bucket_bits=7)
OPT_OUTS = [PublishedOptOut(n, OptOutAction.RESTRICT, 0, 5, bytes(8)) for n in range(1, 4)]
CATALOG = CatalogSnapshot(0, (), (), ())


async def test_parts_keep_their_order_and_sizes(tmp_path: Path) -> None:
    buckets = [Bucket(n, bytes([n]) * 40_000) for n in range(100)]
    async with spooled(tmp_path, HEADER) as file:
        await file.opt_outs(OPT_OUTS)
        for at in range(0, 100, 10):
            await file.buckets(buckets[at : at + 10])
        await file.catalog(CATALOG)
        written = await file.end()
        raw = file.path.read_bytes()

    assert len(raw) == written.size_bytes
    first, *middle, last = FileReader(BytesIO(raw)).parts()
    assert (first, last) == (OPT_OUTS, CATALOG)
    assert [bucket for part in middle for bucket in part] == buckets
    assert len(middle) > 1
    assert not list(tmp_path.iterdir())


async def test_error_of_the_thread_is_the_error_of_the_file(tmp_path: Path) -> None:
    async with spooled(tmp_path, HEADER) as file:
        file._file.close()
        await file.catalog(CATALOG)

        with pytest.raises(ValueError, match="closed"):
            await file.end()


async def test_file_that_is_given_up_leaves_nothing_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spooled_file, "_PIECE_BYTES", 1)
    is_writing, may_end = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    real = FileWriter.buckets

    def slow(writer: FileWriter, buckets: list[Bucket]) -> None:
        loop.call_soon_threadsafe(is_writing.set)
        asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result()
        real(writer, buckets)

    monkeypatch.setattr(FileWriter, "buckets", slow)

    async def make() -> None:
        async with spooled(tmp_path, HEADER) as file:
            await file.buckets([Bucket(1, bytes(9))])
            await is_writing.wait()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await make()
    may_end.set()
    await asyncio.to_thread(bool)  # behind the thread's other work

    assert not list(tmp_path.iterdir())
    assert not caplog.records
