"""The measurement of the near cache: that it measures what it says."""

import re

import pytest

from loadtest.bench.near_cache import EXPONENTS, SHARES, cache_bench

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def test_room_for_everybody_makes_hits_and_no_room_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache_bench(ids=1_000, requests=2_000, rounds=1)

    hits = [float(one) for one in re.findall(r"(\d+\.\d)%  ", capsys.readouterr().out)]
    off, *_, all_of_them = hits[: len(SHARES)]
    assert len(hits) == len(SHARES) * len(EXPONENTS)
    assert off == 0
    assert all_of_them > 50  # on a busy machine leases run out
