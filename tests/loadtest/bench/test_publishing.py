from pathlib import Path

import pytest

from loadtest.bench.publishing import NotFollowed, _compare, _store, measure


@pytest.mark.parametrize("histories", ["few", "random"])
async def test_store_is_published_followed_and_compared(histories: str) -> None:
    row = await measure(histories, 10_000, 5)

    assert 9_000 < row.ids <= 10_000
    assert 8 < row.file_bytes / row.ids < 60
    assert min(row.made.wall_s, row.made.cpu_s, row.followed.wall_s, row.followed.cpu_s) > 0


async def test_difference_is_noticed(tmp_path: Path) -> None:
    async with _store(tmp_path / "a") as source, _store(tmp_path / "b") as pod:
        await _compare(source, pod, 7)
        await source.hset("seg:1:m:5", "field", "record")

        with pytest.raises(NotFollowed, match="a bucket"):
            await _compare(source, pod, 7)
