"""Whose job begins next: each partner in turn, and none while its last attempts were in vain."""

from msgspec.structs import replace

from segments.loader.places import Places
from segments.model.job import Checkpoint, Job
from tests.segments.loader.test_metrics import JOB


def job(number: int, partner_id: int, *, deaths: int = 0) -> Job:
    return replace(JOB, id=number, partner_id=partner_id, checkpoint=Checkpoint(deaths=deaths))


def turns(places: Places, *waiting: Job, now_s: float = 0) -> list[int]:
    return [job.id for job in places.in_turn(waiting, now_s)]


def test_partner_that_was_served_longest_ago_comes_first() -> None:
    """
    However many older jobs the others have.
    """
    places = Places(2)
    assert turns(places, job(3, 2), job(1, 1), job(2, 3)) == [1, 2, 3]

    for number, partner_id in ((1, 1), (2, 3)):
        places.begin(job(number, partner_id))
        places.end(job(number, partner_id))

    assert turns(places, job(7, 1), job(8, 3), job(9, 2)) == [9, 7, 8]


def test_job_at_work_is_not_begun_again_though_its_lease_has_run_out() -> None:
    """
    The clock was set forward, or the machine slept: two in one process would write one spool.
    """
    places = Places(3)
    places.begin(job(1, 1))

    assert turns(places, job(1, 1), job(2, 2)) == [2]


def test_last_place_is_for_small_files() -> None:
    places = Places(3)

    states = [(places.is_for_small, places.is_full)]
    for partner_id in (1, 2, 3):
        places.begin(job(partner_id, partner_id))
        states.append((places.is_for_small, places.is_full))

    assert states == [(False, False), (False, False), (True, False), (False, True)]


def test_partner_whose_job_waits_for_what_is_away_is_passed_over_longer_each_time() -> None:
    places, waiting = Places(2), (job(1, 1), job(2, 2))
    for begun_s, until_s in ((0, 1), (1, 3), (3, 7)):
        places.begin(waiting[0])
        places.end_in_vain(waiting[0], begun_s)
        assert turns(places, *waiting, now_s=until_s - 0.1) == [2]
        assert turns(places, *waiting, now_s=until_s) == [2, 1]

    places.begin(waiting[0])
    places.end(waiting[0])

    assert turns(places, *waiting, now_s=7) == [2, 1]
    places.begin(waiting[0])
    places.end_in_vain(waiting[0], 7)
    assert turns(places, *waiting, now_s=8) == [2, 1]


def test_of_jobs_under_which_several_loaders_died_one_is_at_work_at_a_time() -> None:
    """
    So a file that kills its loader is soon the only one that dies with it.
    """
    places = Places(4)
    places.begin(job(1, 1, deaths=2))

    assert turns(places, job(2, 2, deaths=2), job(3, 3, deaths=1), job(4, 4)) == [3, 4]
    places.end(job(1, 1))
    assert turns(places, job(2, 2, deaths=2)) == [2]
