"""Which calls are made of some ids."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.model.identity import Id
from segments.store.calls_of_array import calls_of_array
from segments.store.keys import FIELD_BYTES, bucket_of, field_of
from segments.store.script_calls import (
    CALLS_PER_SLICE,
    ROWS_PER_CALL,
    ROWS_PER_SLICE,
    Call,
    calls_of,
    slices,
)

# Three bytes out of two values: few buckets and fields, so that they meet.
ids = st.lists(
    st.tuples(*[st.sampled_from([0, 1, 0x80, 0xFF])] * 3).map(
        lambda b: Id(bytes([b[0], 0, 0, 0, b[1], 0, 0, 0, 0, 0, 0, b[2], 9, 9, 9, 9]))
    ),
    min_size=1,
    max_size=60,
)


def cut(fields: bytes) -> list[bytes]:
    return [fields[at : at + FIELD_BYTES] for at in range(0, len(fields), FIELD_BYTES)]


@given(ids, st.sampled_from([4, 8, 13, 32]))
def test_each_id_is_in_one_call_of_its_bucket(ids: list[Id], bits: int) -> None:
    calls = list(calls_of(ids, bits))

    pairs = [(call.bucket, field) for call in calls for field in cut(call.fields)]
    assert sorted(pairs) == sorted({(bucket_of(id_, bits), field_of(id_)) for id_ in ids})
    assert len({call.bucket for call in calls}) == len(calls)


@given(ids)
def test_array_and_sequence_of_ids_make_the_same_calls(ids: list[Id]) -> None:
    array = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)
    every_other = np.repeat(array, 2, axis=0)[::2]  # not contiguous

    of_sequence = list(calls_of(ids, 13))
    of_array, of_view = (list(calls_of_array(some, 13)) for some in (array, every_other))

    assert of_sequence == of_array == of_view


def test_crowded_bucket_is_cut_into_calls_that_a_listpack_takes() -> None:
    count = ROWS_PER_CALL * 2 + 1
    crowd = [Id(bytes(4) + n.to_bytes(8) + bytes(4)) for n in range(count)]

    calls = list(calls_of(crowd, 13))

    assert [len(cut(call.fields)) for call in calls] == [ROWS_PER_CALL] * 2 + [1]
    assert len({field for call in calls for field in cut(call.fields)}) == count


@given(st.lists(st.integers(1, ROWS_PER_CALL), max_size=80))
def test_slices_carry_every_call_in_order_and_are_bounded(sizes: list[int]) -> None:
    calls = [Call(n, bytes(size * FIELD_BYTES)) for n, size in enumerate(sizes)]

    cut_up = list(slices(iter(calls)))

    assert [call for calls_of_slice in cut_up for call in calls_of_slice] == calls
    for calls_of_slice in cut_up:
        rows = sum(len(call.fields) for call in calls_of_slice) // FIELD_BYTES
        assert 0 < len(calls_of_slice) <= CALLS_PER_SLICE
        assert rows < ROWS_PER_SLICE + ROWS_PER_CALL


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(np.zeros((2, 8), np.uint8), id="rows of another length"),
        pytest.param(np.zeros((2, 16), np.int64), id="another type"),
        pytest.param(np.zeros(16, np.uint8), id="one dimension"),
    ],
)
def test_arrays_of_another_shape_are_refused(wrong: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="16"):
        calls_of_array(wrong, 13)


def test_ids_of_other_lengths_are_refused_though_these_cancel_out() -> None:
    with pytest.raises(ValueError, match="16"):
        calls_of([Id(bytes(15)), Id(bytes(17))], 13)
