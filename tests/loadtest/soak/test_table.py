"""Who changes in a soak, and what is due before and after."""

from loadtest.judge import NO_WAVE
from loadtest.population import SEES_ALL, Population
from loadtest.soak.table import Change, Later, Wave, table_of
from rtb.outcome import Outcome


def test_table_has_no_request_of_two_waves_and_what_is_due_differs_after_its_wave() -> None:
    table = table_of(Population(2_000), seed=1, requests=800, waves=12, host="x")
    wave_of = {n: i for i, wave in enumerate(table.waves) for n in wave.numbers}
    changing = [due for due in table.dues if due.wave != NO_WAVE]

    assert {wave.change for wave in table.waves} == set(Change)
    assert all(
        {wave_of[n] for n in due.request.planted if n in wave_of} == {due.wave} for due in changing
    )
    # Those whose own signals refuse, or who meet a recipient without grants, change nothing.
    changes = {(due.expected[0].outcome, due.expected[1].outcome) for due in changing}
    assert (Outcome.ENRICHED, Outcome.OPTED_OUT) in changes
    assert (Outcome.NO_MATCH, Outcome.ENRICHED) in changes
    assert not [due for due in changing if len(due.expected) != 2]


def test_who_joins_has_segments_and_who_says_no_has_said_it() -> None:
    seeded = Population(1_000)
    stranger, member = 1_000, 1

    later = Later(seeded, [Wave(Change.JOIN, (stranger,)), Wave(Change.ERASURE, (member,))])

    assert seeded.live_segments([stranger], SEES_ALL) == {}
    assert later.live_segments([stranger], SEES_ALL)
    assert (seeded.has_opted_out(member), later.has_opted_out(member)) == (False, True)
