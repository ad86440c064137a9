import pytest

from loadtest.population import PARTNERS, SEES_ALL, Population, is_retired
from segments.model.identity import IdentifierKind


def test_every_person_stands_in_one_place() -> None:
    """
    Each once in the files of its cohort, or else among those that no file carries.
    """
    population = Population(7_003)

    filed = [n for slice_ in population.slices() for n in population.numbers_in(slice_)]
    written = [n for c in range(population.cohorts) for n in population.not_in_files(c)]

    assert sorted(filed + written) == list(range(7_003))
    assert all(population.kind_of(n) is IdentifierKind.EMAIL for n in filed)
    assert not any(population.kind_of(n) is IdentifierKind.EMAIL for n in written)


def test_a_file_holds_one_cohort_and_one_kind_of_hash() -> None:
    population = Population(7_003)

    for slice_ in population.slices():
        numbers = list(population.numbers_in(slice_))
        assert {population.cohort_of(n) for n in numbers} == {slice_.cohort}
        assert {population.hash_of(n) for n in numbers} == {slice_.hash}


def test_no_two_persons_have_one_id() -> None:
    population = Population(10_000)

    assert len({population.id_of(n) for n in range(20_000)}) == 20_000


@pytest.mark.parametrize("segments_per_id", [1, 2, 5, 20])
def test_every_cohort_is_in_as_many_segments_as_asked(segments_per_id: int) -> None:
    population = Population(100_000, segments_per_id)

    for cohort in range(population.cohorts):
        audiences = [
            (share.partner.public_id, segment_id)
            for share in population.shares(cohort)
            for segment_id in share.segment_ids
        ]
        assert len(set(audiences)) == len(audiences) == segments_per_id


def test_a_recipient_sees_the_segments_of_its_partners_and_of_no_other() -> None:
    population = Population(100_000)

    for number in range(0, 100_000, 97):
        everything = population.live_segments((number,), SEES_ALL)
        to_a = population.live_segments((number,), "loadtest-dsp-a")
        to_b = population.live_segments((number,), "loadtest-dsp-b")
        assert to_a | to_b == everything
        assert set(to_b) <= {PARTNERS[2].public_id}
        assert not set(to_a) & set(to_b)


def test_retired_segments_are_held_and_not_shown() -> None:
    population = Population(100_000)
    held = {s for c in range(population.cohorts) for p in population.shares(c) for s in p[1]}

    shown = {
        s
        for n in range(2_000)
        for s in set().union(*population.live_segments((n,), SEES_ALL).values())
    }

    assert any(map(is_retired, held))
    assert not any(map(is_retired, shown))


def test_strangers_are_in_nothing_and_opted_out_of_nothing() -> None:
    population = Population(1_000)

    for number in range(1_000, 2_000):
        assert not population.live_segments((number,), SEES_ALL)
        assert not population.has_opted_out(number)
