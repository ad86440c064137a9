import random

import pytest

from loadtest.zipf import Zipf

DRAWS = 20_000


def share_of(zipf: Zipf, rank: int, rng: random.Random) -> float:
    return sum(zipf.rank(rng) == rank for _ in range(DRAWS)) / DRAWS


@pytest.mark.parametrize("exponent", [0.7, 0.99, 1.0, 1.3])
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_a_rank_is_drawn_in_proportion_to_its_weight(exponent: float, rank: int) -> None:
    count = 1_000
    total = sum((r + 1) ** -exponent for r in range(count))
    expected = (rank + 1) ** -exponent / total

    share = share_of(Zipf(count, exponent), rank, random.Random(7))

    # Five standard deviations of a share of so many draws.
    assert share == pytest.approx(expected, abs=5 * (expected / DRAWS) ** 0.5)


def test_a_hundredth_of_the_persons_is_most_of_the_traffic_and_the_tail_is_long() -> None:
    zipf, rng = Zipf(1_000_000), random.Random(1)

    ranks = [zipf.rank(rng) for _ in range(DRAWS)]

    assert 0.6 < sum(rank < 10_000 for rank in ranks) / DRAWS < 0.7
    assert sum(rank >= 500_000 for rank in ranks) > 500


def test_one_person_is_always_that_person() -> None:
    rng = random.Random(1)

    assert {Zipf(1).rank(rng) for _ in range(100)} == {0}


def test_ranks_stay_within_the_population() -> None:
    zipf, rng = Zipf(3, 0.5), random.Random(1)

    assert {zipf.rank(rng) for _ in range(1_000)} == {0, 1, 2}
