"""Two regions on this machine, 100 ms apart: no answer of either is wrong."""

from dataclasses import replace

import pytest

from loadtest.regions.outcome import Plan
from loadtest.regions.run import regions

SHORT = Plan(
    ids=1_000,
    different=600,
    waves=6,
    calm_s=0.1,
    delay_s=0.1,
    opt_outs_every_s=1,
    poll_s=0.2,
    is_cut=False,
    seed=1,
)


@pytest.mark.timeout(240)
def test_second_region_obeys_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert regions(SHORT), capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(900)
def test_second_region_obeys_and_closes_when_it_is_cut_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = replace(
        SHORT,
        ids=20_000,
        different=4_000,
        waves=24,
        calm_s=5,
        opt_outs_every_s=5,
        poll_s=2,
        is_cut=True,
    )

    assert regions(plan), capsys.readouterr().out
