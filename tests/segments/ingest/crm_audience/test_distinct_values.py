import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from segments.ingest.crm_audience.distinct_values import STANDARD_ERROR, Distinct


def digests(count: int, start: int = 0) -> NDArray[np.uint8]:
    raw = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(start, start + count))
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


def test_count_is_exact_up_to_the_bound_however_often_a_value_comes() -> None:
    distinct = Distinct(exact=100_000)

    for _ in range(3):
        distinct.add(digests(100_000))

    assert (distinct.count, distinct.is_exact) == (100_000, True)


def test_nothing_added_is_none() -> None:
    assert Distinct().count == 0


@pytest.mark.parametrize("count", [50_000, 300_000])
def test_count_beyond_the_bound_is_within_three_standard_errors(count: int) -> None:
    distinct = Distinct(exact=10_000)

    for start in range(0, count, 50_000):
        distinct.add(digests(50_000, start))
        distinct.add(digests(50_000, start))

    assert not distinct.is_exact
    assert abs(distinct.count / count - 1) < 3 * STANDARD_ERROR


def test_estimate_does_not_depend_on_the_order() -> None:
    there, back = Distinct(exact=1000), Distinct(exact=1000)
    values = digests(70_000)

    there.add(values)
    back.add(values[::-1])

    assert there.count == back.count
