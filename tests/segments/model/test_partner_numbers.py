from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from segments.model import partner_numbers
from segments.model.audience_count import AudienceCount
from segments.model.job import Report
from segments.model.partner_numbers import (
    ENDS_STEP,
    MIN_MEMBERS,
    MIN_MEMBERS_FOR_SHARE,
    STEP,
    gains_and_losses,
    members_of,
    of_audience,
    of_file,
    offset,
    rounded,
)
from segments.model.record import Tally

SECRET = b"s" * 32
DAYS = 5_000
LAST_DAY = 20_000

members = st.integers(0, 3_000_000)


def count_of(
    day: int, members: int, opted_out: int = 0, ends: dict[int, int] | None = None
) -> AudienceCount:
    return AudienceCount(7, day, 0.0, members, opted_out, ends or {})


def share_of_days_that_differ(
    one: tuple[int, int, dict[int, int]], other: tuple[int, int, dict[int, int]]
) -> float:
    differing = sum(
        of_audience(count_of(day, *one), SECRET) != of_audience(count_of(day, *other), SECRET)
        for day in range(DAYS)
    )
    return differing / DAYS


@given(members, st.sampled_from([STEP, ENDS_STEP]))
def test_one_person_changes_a_number_for_one_offset_of_the_step(exact: int, step: int) -> None:
    """
    Whatever the count: so no count can be chosen at which a person shows more often.
    """
    changed = [r for r in range(step) if rounded(exact, step, r) != rounded(exact + 1, step, r)]

    assert len(changed) == 1


@given(members, st.integers(0, STEP - 1))
def test_number_is_a_multiple_less_than_a_step_away(exact: int, drawn: int) -> None:
    told = rounded(exact, STEP, drawn)

    assert told % STEP == 0
    assert abs(told - exact) < STEP


def test_offsets_are_spread_evenly_over_days_and_audiences() -> None:
    """
    Each of the hundred occurs about as often as by chance: within five standard deviations.
    """
    by_day = Counter(offset(SECRET, 7, day, "members", STEP) for day in range(20_000))
    by_audience = Counter(offset(SECRET, id_, 7, "members", STEP) for id_ in range(20_000))

    for drawn in (by_day, by_audience):
        assert set(drawn) == set(range(STEP))
        assert all(abs(times - 200) < 5 * 14.1 for times in drawn.values())


def test_numbers_of_an_audience_and_day_have_offsets_of_their_own() -> None:
    same = sum(
        offset(SECRET, 7, day, "members", STEP) == offset(SECRET, 7, day, "opted out", STEP)
        for day in range(10_000)
    )

    assert 50 <= same <= 150


def test_without_the_secret_an_offset_is_another() -> None:
    drawn = [offset(secret, 7, 9, "members", 10**6) for secret in (b"a" * 32, b"b" * 32)]

    assert drawn[0] != drawn[1]


@given(members, members, st.dictionaries(st.integers(1, LAST_DAY), members, max_size=3))
def test_same_count_is_told_the_same_each_time(
    exact: int, opted_out: int, ends: dict[int, int]
) -> None:
    count = count_of(1, exact, opted_out, ends)

    assert of_audience(count, SECRET) == of_audience(count, SECRET)


def test_runs_that_differ_in_one_restriction_show_the_same_in_all_but_one_of_100_days() -> None:
    ends = {300: 43_400}

    differing = share_of_days_that_differ((100_200, 3_000, ends), (100_200, 3_001, ends))

    assert 0 < differing < 0.015  # 0.01, and what 5,000 draws may differ from it


def test_runs_that_differ_in_one_erasure_show_the_same_in_nearly_as_many_days() -> None:
    differing = share_of_days_that_differ(
        (250_000, 3_000, {300: 123_400}), (249_999, 3_000, {300: 123_399})
    )

    assert 0 < differing < 0.016  # 0.011


def test_one_opt_out_in_a_small_audience_never_shows() -> None:
    for size in (1, 2, 500, MIN_MEMBERS - STEP):
        ends = {300: size}

        assert not share_of_days_that_differ((size, 0, ends), (size, 1, ends))
        assert not share_of_days_that_differ((size, 0, ends), (size - 1, 0, {300: size - 1}))


@given(st.integers(1, 2 * MIN_MEMBERS), st.integers(1, LAST_DAY))
def test_number_under_1000_is_not_told_and_its_threshold_is_rounded_too(
    exact: int, day: int
) -> None:
    told = of_audience(count_of(day, exact), SECRET)

    drawn = offset(SECRET, 7, day, "members", STEP)
    assert (told.members is None) == (exact + drawn < MIN_MEMBERS)
    assert told.members is None or told.members >= MIN_MEMBERS


@given(members, st.data())
def test_share_is_told_from_100_000_members_on(exact: int, data: st.DataObject) -> None:
    opted_out = data.draw(st.integers(0, exact))

    told = of_audience(count_of(1, exact, opted_out), SECRET)

    if told.members is None or told.members < MIN_MEMBERS_FOR_SHARE:
        assert told.opted_out_share is None
    else:
        assert told.opted_out_share is not None
        assert abs(told.opted_out_share - opted_out / exact) < 0.003


@given(st.dictionaries(st.integers(1, LAST_DAY), members, max_size=5))
def test_ends_are_told_in_thousands(ends: dict[int, int]) -> None:
    told = of_audience(count_of(1, 10**7, 0, ends), SECRET)

    assert all(some and some % ENDS_STEP == 0 for some in told.ends.values())
    assert list(told.ends) == sorted(told.ends)
    assert all(abs(ends[day] - some) < ENDS_STEP for day, some in told.ends.items())


def tallied(persons: int, refused: int) -> Report:
    report = Report(rows=persons + 3, bad=1, written=persons + 2, duplicates=2)
    return report.with_tallies({1: Tally(added=persons - refused, refused=refused)})


@given(st.integers(1, 10**6), st.data())
def test_numbers_of_a_file_do_not_depend_on_who_has_opted_out(
    persons: int, data: st.DataObject
) -> None:
    refused = data.draw(st.integers(0, persons))

    told = of_file(tallied(persons, refused))

    assert told == of_file(tallied(persons, 0))
    assert told == partner_numbers.FileNumbers(persons + 3, 1, 2, persons)


@given(st.integers(MIN_MEMBERS + STEP, 10**7), st.integers(1, 60))
def test_audience_at_rest_gains_and_loses_nothing(exact: int, days: int) -> None:
    told = [members_of(7, day, exact, SECRET) for day in range(days)]

    assert gains_and_losses([each for each in told if each is not None]) == (0, 0)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=40))
def test_gains_less_losses_are_the_whole_change(told: list[int]) -> None:
    gained, lost = gains_and_losses(told)

    assert abs((gained - lost) - (told[-1] - told[0])) <= STEP


def test_gains_and_losses_of_days_are_told_apart() -> None:
    assert gains_and_losses([]) == (0, 0)
    assert gains_and_losses([10_000, 10_100, 15_000, 12_000, 12_100]) == (5_000, 3_000)
