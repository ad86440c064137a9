"""What is said of a curve is what readers take home, so it is held on curves that are known."""

from pathlib import Path

import pytest

from loadtest.bench.growth import Cost, Curve, Sweep, table
from loadtest.bench.plots import plot_sweep

X = (1, 2, 4, 8, 16)


def curve(*y: float) -> Curve:
    return Curve("CPU", X, y)


@pytest.mark.parametrize(
    ("y", "steepest"),
    [
        pytest.param((7, 7, 7, 7, 7), 0.0, id="flat"),
        pytest.param((1, 2, 4, 8, 16), 1.0, id="linear"),
        pytest.param((1, 4, 16, 64, 256), 2.0, id="quadratic"),
        pytest.param((10, 10, 10, 10, 40), 1.0, id="a jump counts over a fourfold"),
        pytest.param((50, 20, 10, 20, 40), 1.0, id="falling first hides nothing"),
    ],
)
def test_steepest_is_the_largest_exponent(y: tuple[float, ...], steepest: float) -> None:
    assert curve(*y).steepest() == pytest.approx(steepest)


def test_two_points_closer_than_a_fourfold_are_compared_all_the_same() -> None:
    assert Curve("CPU", (1, 3), (2, 18)).steepest() == pytest.approx(2)


def test_fixed_cost_and_a_linear_one_stay_below_linear() -> None:
    assert 0 < curve(*(30 + 5 * x for x in X)).steepest() < 1


@pytest.mark.parametrize(
    ("y", "bend"),
    [
        pytest.param((30, 35, 45, 65, 105), 8, id="where it is twice the first"),
        pytest.param((30, 31, 32, 33, 34), None, id="nowhere"),
        pytest.param((10, 20, 20, 20, 20), 2, id="at the second"),
        pytest.param((50, 30, 20, 30, 40), 16, id="after it fell"),
    ],
)
def test_bend_is_where_growth_weighs_more_than_the_start(
    y: tuple[float, ...], bend: float | None
) -> None:
    assert curve(*y).bend() == bend


def test_worse_than_linear_is_said_and_linear_is_not() -> None:
    assert "WORSE THAN LINEAR" in curve(1, 2, 4, 16, 64).verdict()
    assert "WORSE" not in curve(1, 2, 4, 8, 16).verdict()


def test_table_has_a_row_for_each_x_and_a_verdict_for_each_curve() -> None:
    text = table("ids", [curve(1, 2, 3, 4, 5), curve(5, 5, 5, 5, 5)._replace(name="p50 ms")])

    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == "| ids | CPU | p50 ms |"
    assert rows[-1] == "| 16 | 5.00 | 5.00 |"
    assert len(rows) == 2 + len(X)
    assert sum(line.startswith("- ") for line in text.splitlines()) == 2


def test_a_million_is_written_out() -> None:
    text = table("persons", [Curve("CPU", (10_000, 1_000_000), (10, 30))])

    assert "| 1,000,000 | 30.00 |" in text
    assert "twice its least at 1,000,000" in text


def test_sweep_is_of_medians_and_is_drawn(tmp_path: Path) -> None:
    rounds = [Cost(30, 0.1, 1), Cost(90, 0.3, 9), Cost(40, 0.2, 2)]
    sweep = Sweep("ids per request", "ids.png", X, [rounds] * len(X))

    cpu, p50, p99 = sweep.curves()
    drawn = plot_sweep(sweep, tmp_path, "a machine")

    assert (cpu.y[0], p50.y[0], p99.y[0]) == (40, 0.2, 2)
    assert drawn == tmp_path / "ids.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
