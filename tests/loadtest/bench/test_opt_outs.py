import pytest

from loadtest.bench.opt_outs import IDS_A_REQUEST, NotApplied, _check, _new_ids, _stores, measure


async def test_each_way_of_saying_no_is_measured_and_checked() -> None:
    rows = await measure(IDS_A_REQUEST, 3, None)

    assert [row.ids for row in rows] == [IDS_A_REQUEST] * 3 + [3] * 2
    assert all(row.ids_per_s > 0 for row in rows)


async def test_opt_out_that_is_not_in_force_is_noticed() -> None:
    async with _stores(None) as stores:
        with pytest.raises(NotApplied, match="lacks"):
            await _check(stores, [id_ for _, id_ in _new_ids(1)])
