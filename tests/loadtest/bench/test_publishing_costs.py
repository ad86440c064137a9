import pytest

from loadtest.bench.publishing_costs import measure


@pytest.mark.long
async def test_lookups_and_writes_are_measured() -> None:
    name_to_ms, costs = await measure(10_000, 3)

    assert list(name_to_ms) == ["alone", "sweep", "full"]
    assert all(len(took_ms) > 3 for took_ms in name_to_ms.values())
    assert len(costs) == 2
    assert all(0.1 < cost.store_cpu < 10 for cost in costs)
