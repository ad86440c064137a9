"""
The requests of a soak, each with its expected answers.

Some persons change in waves, by opt-outs and files: a request has an expectation before its wave
and another after it; meanwhile either is right. Requests with persons of two waves are left out.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple

from loadtest.driver import wire
from loadtest.judge import NO_WAVE, Due
from loadtest.population import Population
from loadtest.traffic import BidRequest, Expectation, Traffic, expectation
from segments.model.identity import IdentifierKind

_PERSONS_PER_NO = 6
_PERSONS_PER_FILE = 40


class Change(StrEnum):
    """The change in a wave."""

    RESTRICT = "RESTRICT"
    ERASURE = "ERASURE"
    JOIN = "a file makes them known"


class Wave(NamedTuple):
    """Persons, by number, with a simultaneous change."""

    change: Change
    numbers: tuple[int, ...]


class Table(NamedTuple):
    """All of a soak's requests, and its waves in order."""

    dues: Sequence[Due]
    waves: Sequence[Wave]


class Later(Population):
    """
    The population after some waves.

    Args:
        population: As it was seeded.
        waves: Since then.
    """

    def __init__(self, population: Population, waves: Iterable[Wave]) -> None:
        super().__init__(population.ids, population.segments_per_id)
        self._seeded = population
        self._saying_no: set[int] = set()
        self._joined: set[int] = set()
        for change, numbers in waves:
            (self._joined if change is Change.JOIN else self._saying_no).update(numbers)

    def is_known(self, number: int) -> bool:
        """Tell whether a number is in the store by now."""
        return number in self._joined or self._seeded.is_known(number)

    def has_opted_out(self, number: int) -> bool:
        """Tell whether a person has opted out by now."""
        return number in self._saying_no or self._seeded.has_opted_out(number)


def table_of(population: Population, *, seed: int, requests: int, waves: int, host: str) -> Table:
    """
    Make a soak's requests.

    Args:
        population: As it was seeded.
        seed: Another seed means other traffic and other changing persons.
        requests: Different requests, at most.
        waves: At most; limited by the persons.
        host: As in the requests.
    """
    traffic = Traffic(population, seed)
    drawn = [traffic.request(index) for index in range(requests)]
    made = _waves(Random(f"waves:{seed}"), population, drawn, waves)
    wave_of = {number: i for i, wave in enumerate(made) for number in wave.numbers}
    later = Later(population, made)
    dues = []
    for request in drawn:
        touching = {wave_of[n] for n in request.planted if n in wave_of}
        if len(touching) > 1:
            continue
        expected: tuple[Expectation, ...] = (expectation(request, population),)
        if touching:
            expected += (expectation(request, later),)
        wave = touching.pop() if touching else NO_WAVE
        dues.append(Due(request, wire(request, host), expected, wave))
    return Table(dues, made)


def _waves(
    rng: Random, population: Population, drawn: Sequence[BidRequest], count: int
) -> list[Wave]:
    planted = sorted({number for request in drawn for number in request.planted})
    will_say_no = [n for n in planted if population.is_known(n) and not population.has_opted_out(n)]
    strangers = [n for n in planted if not population.is_known(n) and _can_join(population, n)]
    rng.shuffle(will_say_no)
    # A file has a single kind of hash, and the segments of a single cohort.
    files = list(_alike(population, strangers).values())
    # Not all: some persons must remain enriched, some strangers unknown.
    del will_say_no[len(will_say_no) // 3 :], files[len(files) // 2 :]
    waves: list[Wave] = []
    while len(waves) < count and len(will_say_no) >= _PERSONS_PER_NO and files:
        change = (Change.RESTRICT, Change.JOIN, Change.ERASURE)[len(waves) % 3]
        if change is Change.JOIN:
            numbers = tuple(files.pop()[:_PERSONS_PER_FILE])
        else:
            numbers = tuple(will_say_no[:_PERSONS_PER_NO])
            del will_say_no[:_PERSONS_PER_NO]
        waves.append(Wave(change, numbers))
    return waves


def _can_join(population: Population, number: int) -> bool:
    """Tell whether a file gives a stranger all expected segments."""
    shares = population.shares(population.cohort_of(number))
    return population.kind_of(number) is IdentifierKind.EMAIL and len(shares) == 1


def _alike(population: Population, numbers: Collection[int]) -> Mapping[tuple[int, str], list[int]]:
    alike: dict[tuple[int, str], list[int]] = {}
    for number in numbers:
        key = population.cohort_of(number), population.hash_of(number)
        alike.setdefault(key, []).append(number)
    return alike
