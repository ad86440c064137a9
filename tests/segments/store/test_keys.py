import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.store.keys import (
    MAX_BUCKET_BITS,
    MIN_BUCKET_BITS,
    bucket_bits_for,
    bucket_key,
    bucket_of,
    field_of,
)


@pytest.mark.parametrize(
    ("expected_ids", "bits"),
    [
        pytest.param(0, MIN_BUCKET_BITS, id="a store for nobody"),
        pytest.param(1_000_000, 13, id="a million in 8 thousand buckets"),
        pytest.param(100_000_000, 20, id="a hundred million in a million buckets"),
        pytest.param(10**12, MAX_BUCKET_BITS, id="no more bits than an id gives"),
    ],
)
def test_buckets_follow_from_the_expected_ids(expected_ids: int, bits: int) -> None:
    assert bucket_bits_for(expected_ids) == bits


@given(st.integers(10_000, 10**11))
def test_bucket_of_a_store_that_is_sized_right_holds_about_a_hundred(expected_ids: int) -> None:
    persons_per_bucket = expected_ids / 2 ** bucket_bits_for(expected_ids)

    assert 69 <= persons_per_bucket <= 145


@given(st.binary(min_size=16, max_size=16), st.integers(MIN_BUCKET_BITS, MAX_BUCKET_BITS))
def test_bucket_is_the_first_bits_of_the_id_and_the_field_stands_behind(
    id_: bytes, bits: int
) -> None:
    assert f"{bucket_of(id_, bits):0{bits}b}" == f"{int.from_bytes(id_):0128b}"[:bits]
    assert field_of(id_) == id_[4:12]


def test_key_names_the_bucket_in_hex_without_padding() -> None:
    assert bucket_key(0x1F) == b"seg:1:m:1f"
    assert bucket_key(0) == b"seg:1:m:0"
