"""Readers rely on the table, so its ratios, verdicts and gaps are checked here."""

import pytest

from loadtest.bench.peers.build import AIOHTTP, FAST, NGINX, STDLIB, Skipped
from loadtest.bench.peers_report import FLOOR, OURS, Measured, Report

NOTHING = Measured(*([] for _ in Measured._fields))
MEASURED = Measured(
    cpu_us=[30, 20, 40],
    wrk_cpu_us=[25],
    requests_per_s=[20_000],
    busy=[0.99],
    p50_ms=[0.2],
    p99_ms=[1.0],
    same_rate_p50_ms=[0.1],
    same_rate_p99_ms=[0.5],
)


def report(name_to_measured: dict[str, Measured], skipped: list[Skipped] | None = None) -> Report:
    return Report(["head"], {OURS: MEASURED} | name_to_measured, skipped or [], 30.0, 10_000)


def verdict(found: Report, name: str) -> str:
    [target] = [target for target in found.targets() if target.name == name]
    return target.verdict


@pytest.mark.parametrize(
    ("theirs_us", "expected"),
    [
        pytest.param([50.0], "reached", id="exactly"),
        pytest.param([49.0], "missed", id="a little too much"),
        pytest.param([49.0, 50.0, 1.0], "missed", id="the median counts, not the best round"),
    ],
)
def test_verdict_is_of_the_ratio_of_medians(theirs_us: list[float], expected: str) -> None:
    found = report({FAST: MEASURED._replace(cpu_us=theirs_us)})

    assert verdict(found, f"CPU per request, of {FAST}") == expected


def test_peer_that_could_not_be_built_stands_in_the_table_with_its_reason() -> None:
    found = report({AIOHTTP: MEASURED}, [Skipped(NGINX, "nginx is not installed")])

    text = found.markdown()
    assert f"| {NGINX} | skipped: nginx is not installed |" in text
    assert verdict(found, f"CPU per request, of {NGINX}") == "not measured"
    assert verdict(found, f"CPU per request, of {STDLIB}") == "not measured"


def test_row_gives_median_spread_and_ratio() -> None:
    slow = MEASURED._replace(
        cpu_us=[100, 120, 110], wrk_cpu_us=[100], requests_per_s=[5_000], p99_ms=[4.0]
    )

    text = report({AIOHTTP: slow}).markdown()

    row = "110.0 (100.0-120.0) | 0.27 | 100.0 | 0.25 | 5,000 | 4.00 | 0.20 | 4.00 | 0.25"
    assert f"| {AIOHTTP} | {row} |" in text


def test_what_was_not_measured_is_an_empty_cell() -> None:
    text = report({FLOOR: NOTHING._replace(cpu_us=[10])}).markdown()

    assert f"| {FLOOR} | 10.0 | 3.00 |  |  |  |  |  |  |  |" in text


@pytest.mark.parametrize(("busy", "is_said"), [(0.99, False), (0.6, True)])
def test_saturation_of_an_idle_server_is_said_to_be_none(busy: float, is_said: bool) -> None:
    text = report({FAST: MEASURED._replace(busy=[busy])}).markdown()

    assert ("had a CPU for only 60%" in text) is is_said


def test_table_is_markdown_of_one_width() -> None:
    text = report({AIOHTTP: MEASURED, FLOOR: NOTHING}, [Skipped(NGINX, "why")]).markdown()

    for table in text.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, table
