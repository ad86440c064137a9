"""Charts, as their numbers and as what a screen reader says of them."""

import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from segments.console.charts import ends_by_day, members_by_day
from segments.model.partner_numbers import AudienceNumbers

TODAY = 2_525  # 2026-11-30


def day(n: int, members: int | None) -> AudienceNumbers:
    return AudienceNumbers(n, float(n), members, None, {})


def drawings(chart: Markup | None) -> list[ET.Element]:
    assert chart is not None
    return list(ET.fromstring(f"<figure>{chart}</figure>"))


def test_members_are_drawn_from_zero_wide_and_narrow_with_their_finding() -> None:
    chart = members_by_day([day(TODAY, 150_000), day(TODAY - 1, 200_000), day(TODAY - 2, 100_000)])

    wide, narrow = drawings(chart)
    assert (wide.get("class"), narrow.get("class")) == ("plot only-wide", "plot only-narrow")
    assert wide[0].text == "Members from 2026-11-28 to 2026-11-30: from 100 k to 150 k"
    [line] = [each for each in wide if each.get("class") == "line"]
    # Of 120 units from the axis at 134: a half, the whole, three quarters.
    assert re.findall(r" (\d+\.\d)", str(line.get("d"))) == ["74.0", "14.0", "44.0"]
    bars = [(each.get("class"), each.get("height")) for each in wide if each.tag == "rect"]
    assert bars == [("up", "26.0"), ("down", "13.0")]


def test_days_that_can_not_be_told_are_not_drawn() -> None:
    assert members_by_day([day(TODAY, 2_000), day(TODAY - 1, None)]) is None
    assert members_by_day([]) is None
    assert ends_by_day({TODAY - 1: 5_000, TODAY + 30: 5_000}, TODAY) is None


def test_ends_are_drawn_by_day_those_of_a_week_apart() -> None:
    [chart] = drawings(ends_by_day({TODAY + 3: 4_000, TODAY + 20: 8_000}, TODAY))

    assert chart[0].text == "Memberships by their last day: most, 8 k, on 2026-12-20"
    bars = [(each.get("class"), each.get("height")) for each in chart if each.tag == "rect"]
    assert bars == [("down", "35.0"), ("quiet", "70.0")]


@given(st.lists(st.integers(1_000, 10**10), min_size=2, max_size=30))
def test_every_chart_stays_within_its_frame_and_needs_no_style(members: list[int]) -> None:
    days = [day(TODAY - n, some) for n, some in enumerate(members)]
    ends = {TODAY + n: some for n, some in enumerate(members)}

    for chart in (members_by_day(days), ends_by_day(ends, TODAY)):
        for drawing in drawings(chart):
            assert "style" not in str(chart)
            _, _, width, height = map(float, str(drawing.get("viewBox")).split())
            for each in drawing.iter("rect"):
                x, y = float(str(each.get("x"))), float(str(each.get("y")))
                assert x >= 0
                assert x + float(str(each.get("width"))) <= width + 0.1
                assert y >= 0
                assert y + float(str(each.get("height"))) <= height
