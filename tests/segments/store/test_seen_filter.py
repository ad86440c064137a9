from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.seen_in_bids import filter_of, has
from segments.model.identity import Id, id_of_email_hash
from segments.model.record import day_of
from segments.store.seen_filter import (
    BITS,
    PROBES,
    SEEN_DAYS,
    days_remembered,
    forgotten_at_s,
    probes,
)

ids = st.binary(min_size=16, max_size=16).map(Id)
S_PER_DAY = 86_400


def raw_filter(of: Sequence[Id]) -> bytes:
    """Set bits as SETBIT does: a string as long as its last bit needs."""
    raw = bytearray()
    for id_ in of:
        for bit in probes(id_):
            raw.extend(bytes(max(0, bit // 8 + 1 - len(raw))))
            raw[bit // 8] |= 0x80 >> bit % 8
    return bytes(raw)


def array_of(of: Sequence[Id]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(of), np.uint8).reshape(len(of), 16)


@given(ids)
def test_probes_of_an_id_are_its_four_words_each_within_the_filter(id_: Id) -> None:
    found = probes(id_)

    assert found == tuple(int.from_bytes(id_[at : at + 4]) % BITS for at in range(0, 16, 4))
    assert len(found) == PROBES
    assert all(0 <= bit < BITS for bit in found)


@given(st.lists(ids, min_size=1, max_size=20), st.lists(ids, max_size=20))
def test_filter_knows_every_id_that_it_was_given_and_what_has_the_same_bits(
    given_: list[Id], others: list[Id]
) -> None:
    bits = {bit for id_ in given_ for bit in probes(id_)}

    answer = has(filter_of(raw_filter(given_)), array_of([*given_, *others]))

    assert answer.tolist() == [set(probes(id_)) <= bits for id_ in [*given_, *others]]
    assert answer[: len(given_)].all()


def test_empty_filter_knows_nobody_and_nobody_is_a_question_too() -> None:
    filter_ = filter_of(b"")

    assert not has(filter_, array_of([Id(bytes(16))])).any()
    assert has(filter_, array_of([])).tolist() == []


def test_false_positives_are_as_rare_as_the_law_says() -> None:
    """A filter as full as 10 million ids make it; the law's 0.44 % of 400,000 is 1764."""
    rng = np.random.default_rng(3)
    filter_ = np.zeros(BITS // 8, np.uint8)
    for _ in range(10):
        bits = rng.integers(0, BITS, 4_000_000)
        np.bitwise_or.at(filter_, bits >> 3, (0x80 >> (bits & 7)).astype(np.uint8))
    strangers = rng.integers(0, 256, (400_000, 16), np.uint8)

    share = has(filter_, strangers).mean()

    assert share == pytest.approx(4.41e-3, rel=0.1)


@given(st.floats(1.6e9, 4e9))
def test_day_is_forgotten_when_nobody_asks_about_it_any_more(at_s: float) -> None:
    forgotten_s = forgotten_at_s(at_s)

    assert day_of(at_s) in days_remembered(day_of(forgotten_s - 1))
    assert day_of(at_s) not in days_remembered(day_of(forgotten_s))
    assert SEEN_DAYS * S_PER_DAY < forgotten_s - at_s <= (SEEN_DAYS + 1) * S_PER_DAY


def test_today_is_the_last_day_remembered() -> None:
    assert days_remembered(2500)[-1] == 2500
    assert len(days_remembered(2500)) == SEEN_DAYS + 1


def test_id_of_a_digest_has_the_probes_of_its_first_sixteen_bytes() -> None:
    digest = "00000001ffffffff080000027fffffff" + "ab" * 16

    assert probes(id_of_email_hash(digest)) == (1, BITS - 1, 2, BITS - 1)
