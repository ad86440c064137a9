"""The verdict on a load bench is of the medians of its rounds."""

import re

import pytest

from loadtest.bench.load_rate_report import Measured, Side, table

MEASURED = Measured(rows_per_s=1_000, server_us=1, client_us=2, bytes_per_id=30)
FASTER = MEASURED._replace(rows_per_s=1_500)


@pytest.mark.parametrize(
    ("ours", "pipe", "verdicts"),
    [
        pytest.param(FASTER, MEASURED, ["reached", "reached"], id="faster"),
        pytest.param(MEASURED, FASTER, ["missed", "reached"], id="slower"),
    ],
)
def test_verdict_is_of_the_medians(ours: Measured, pipe: Measured, verdicts: list[str]) -> None:
    slow = MEASURED._replace(rows_per_s=1)

    said = table(
        2_000,
        ["into an empty store"],
        [Side([slow]), Side([ours]), Side([ours], peak_bytes=10**8)],
        [Side([pipe])] * 3,
    )

    assert re.findall("reached|missed", said) == verdicts


def test_loader_that_takes_too_much_memory_misses() -> None:
    said = table(2_000, ["into an empty store"], [Side([MEASURED], peak_bytes=301 * 10**6)], [])

    assert re.search(r"peak memory of the loader, MB +301.00 +300.00  missed", said)


def test_cluster_is_beside_the_one_server() -> None:
    said = table(2_000, ["into an empty store"], [Side([FASTER])], [], clustered=[Side([MEASURED])])

    assert re.search(r"into a Cluster +1,000 +- ", said)
    assert re.search(r"rows/s into a Cluster, of one server +0.67$", said, re.MULTILINE)
