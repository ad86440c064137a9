import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.ingest.parse import Ids
from segments.ingest.spool import PARTS, Spool


def random_ids(rows: int, *, prefix: int | None = None) -> Ids:
    ids = np.random.default_rng(rows).integers(0, 256, (rows, 16), dtype=np.uint8)
    if prefix is not None:
        ids[:, :2] = prefix
    return ids


def filled(directory: Path, ids: Ids, *, chunk_rows: int = 1000) -> Spool:
    # Many blocks out of few rows.
    spool = Spool(directory, block_rows=700)
    for at in range(0, len(ids), chunk_rows):
        spool.add(ids[at : at + chunk_rows])
    spool.finish()
    return spool


def sorted_rows(ids: Ids) -> list[bytes]:
    return sorted(row.tobytes() for row in ids)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(0, 5000), max_rows=st.integers(1, 3000))
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, rows: int, max_rows: int
) -> None:
    ids = random_ids(rows)
    with filled(tmp_path_factory.mktemp("spool"), ids) as spool:
        batches = list(spool.batches(0, max_rows))

    taken = np.concatenate([np.empty((0, 16), np.uint8), *(batch.ids for batch in batches)])
    assert spool.rows == rows
    assert sorted_rows(taken) == sorted_rows(ids)
    assert all(len(batch.ids) <= max_rows for batch in batches)


def test_batches_follow_the_order_of_the_ids(tmp_path: Path) -> None:
    with filled(tmp_path, random_ids(5000)) as spool:
        batches = list(spool.batches(0, 500))

    bounds = [(int(b.ids[:, 0].min()), int(b.ids[:, 0].max())) for b in batches]
    assert all(low[1] <= high[0] for low, high in itertools.pairwise(bounds))


def test_ids_of_one_person_meet_in_one_batch(tmp_path: Path) -> None:
    ids = random_ids(3000)
    with filled(tmp_path, np.concatenate([ids, ids])) as spool:
        distinct = [len(np.unique(batch.ids, axis=0)) for batch in spool.batches(0, 500)]

    assert sum(distinct) == 3000


@pytest.mark.parametrize("max_rows", [300, 5000], ids=["as before", "another size of batch"])
def test_going_on_from_a_checkpoint_leaves_out_exactly_what_was_taken(
    tmp_path: Path, max_rows: int
) -> None:
    ids = random_ids(4000)
    with filled(tmp_path, ids) as spool:
        taken = list(spool.batches(0, 300))[:5]
    with filled(tmp_path, ids, chunk_rows=37) as again:
        rest = list(again.batches(taken[-1].next_part, max_rows))

    everything = np.concatenate([batch.ids for batch in (*taken, *rest)])
    assert sorted_rows(everything) == sorted_rows(ids)


def test_file_of_one_part_comes_in_many_batches_and_only_the_last_ends_it(tmp_path: Path) -> None:
    """
    Whoever chooses hashes that begin alike can't make us hold them all at once.
    """
    ids = random_ids(5000, prefix=0xAB)
    with filled(tmp_path, ids) as spool:
        batches = list(spool.batches(0, 400))

    parts = [batch.next_part for batch in batches]
    assert sum(len(batch.ids) for batch in batches) == 5000
    assert max(len(batch.ids) for batch in batches) <= 400
    assert parts[:-1] == [0xABA] * (len(parts) - 1)
    assert parts[-1] == 0xABB


def test_finished_spool_has_nothing_behind_its_last_part(tmp_path: Path) -> None:
    with filled(tmp_path, random_ids(100)) as spool:
        assert list(spool.batches(PARTS, 10)) == []


def test_spool_has_no_name_that_a_killed_process_could_leave_behind(tmp_path: Path) -> None:
    with filled(tmp_path, random_ids(2000)):
        assert list(tmp_path.iterdir()) == []
