"""The table of low rates says what was reached."""

from loadtest.bench.low_rates import Extent, Rate, report
from loadtest.bench.shape_report import Costs


def test_report_compares_the_two_of_a_round_with_the_target() -> None:
    lines = report(
        "A machine.",
        Extent(1_000, 2, 5),
        {
            500: Rate(Costs([90.0, 180.0], [100.0, 200.0]), Costs([0.0, 0.02], [0.0, 0.0])),
            2_000: Rate(Costs([91.0], [100.0]), Costs([0.0], [0.0])),
            10_000: Rate(Costs([10.0], [100.0]), Costs([0.5], [0.0])),
        },
    ).splitlines()

    assert lines[0].startswith("`python -m loadtest low-rates --ids 1000 --rounds 2 --seconds 5`")
    assert lines[-3:] == [
        "| 500 | 135.0 (90.0-180.0) | 1.0% | 150.0 (100.0-200.0) | 0.0% | 0.90 | 0.9 | reached |",
        "| 2,000 | 91.0 | 0.0% | 100.0 | 0.0% | 0.91 | 0.9 | missed |",
        "| 10,000 | 10.0 | 50.0% | 100.0 | 0.0% | 0.10 | 0.9 | too many late |",
    ]
