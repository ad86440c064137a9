"""The tables of tails: medians of the rounds, and what was reached."""

from loadtest.bench.peers_report import OURS
from loadtest.bench.tails_report import LOAD, QUIET, STALL, Extent, Point, Tail, report

EXTENT = Extent(1_000, 10_000_000, 3, 4)


def tail(p99: float, held_up: float = 0.1) -> Tail:
    return Tail(0.2, p99, 2 * p99, held_up, 0.01)


def test_rows_are_medians_of_the_rounds() -> None:
    found = {Point(QUIET, "30%", OURS): [tail(1.0), tail(9.0), tail(3.0)]}

    assert f"| quiet | 30% | {OURS} | 0.20 | 3.00 | 6.00 | 0.10 | 1.0% |" in report(
        "A machine.", EXTENT, found
    )


def test_targets_are_of_ours_alone() -> None:
    found = {
        Point(QUIET, "2,000/s", OURS): [tail(1.0)],
        Point(QUIET, "10,000/s", OURS): [tail(1.0)],
        Point(LOAD, "2,000/s", OURS): [tail(3.0)],
        Point(STALL, "10,000/s", OURS): [tail(31.0)],
        Point(STALL, "10,000/s", "another"): [tail(1.0)],
    }

    *_, stalled, loaded = report("A machine.", EXTENT, found).splitlines()

    assert stalled == "| p99 ms through a stall, 10,000/s | 31.0 | 30 | missed |"
    assert loaded == "| p99 beside a load, of the quiet p99, 2,000/s | 3.0 | 3 | reached |"


def test_target_of_a_busy_machine_has_no_verdict() -> None:
    found = {
        Point(QUIET, "10,000/s", OURS): [tail(9.0, held_up=1.1)],
        Point(STALL, "10,000/s", OURS): [tail(10.0)],
    }

    assert report("A machine.", EXTENT, found).endswith("| 10.0 | 30 | machine too busy |")


def test_without_a_load_there_is_no_target_of_it() -> None:
    found = {Point(QUIET, "2,000/s", OURS): [tail(1.0)]}

    assert "target" not in report("A machine.", EXTENT, found)
