"""Ids are sorted by bucket and field, each name's in their first order, whatever keys are equal."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segments.model.identity import Id
from segments.store.keys import bucket_of, field_of
from segments.store.name_order import name_order

# Few values, so that names and beginnings of names repeat; the last bytes are in no name.
alike = st.lists(st.sampled_from([0, 1, 128, 255]), min_size=16, max_size=16).map(bytes).map(Id)
ids = st.lists(st.one_of(alike, st.just(Id(bytes(16))), st.just(Id(bytes(15) + b"\1"))))


@given(ids, st.sampled_from([4, 8, 13, 32]))
def test_ids_are_sorted_by_name(ids: list[Id], bits: int) -> None:
    names = name_order(np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16), bits)

    def name(id_: Id) -> tuple[int, int]:
        return bucket_of(id_, bits), int(np.frombuffer(field_of(id_), np.uint64)[0])

    expected = sorted(range(len(ids)), key=lambda place: name(ids[place]))
    of_names = [name(ids[place]) for place in expected]
    assert [name(ids[place]) for place in names.order.tolist()] == of_names
    assert list(zip(names.buckets.tolist(), names.fields.tolist(), strict=True)) == of_names
    if not names.is_first.all():
        assert names.order.tolist() == expected
    assert names.is_first.tolist() == [
        at == 0 or of_names[at] != of_names[at - 1] for at in range(len(ids))
    ]
    assert names.is_last.tolist() == [
        at == len(ids) - 1 or of_names[at] != of_names[at + 1] for at in range(len(ids))
    ]
