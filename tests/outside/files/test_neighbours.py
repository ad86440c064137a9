"""What went wrong with queues that many share, by public reports, tried on the loader's places."""

from msgspec.structs import replace

from segments.loader.places import Places
from segments.model.job import Job
from tests.segments.loader.test_metrics import JOB


def carried(queues: dict[int, list[Job]], jobs_at_once: int, jobs: int) -> list[int]:
    """Return whose jobs are carried first where each takes as long, one ending at a time."""
    places, at_work, order = Places(jobs_at_once), list[Job](), list[int]()
    while len(order) < jobs:
        busy = {job.partner_id for job in at_work}
        waiting = [queue[0] for partner, queue in queues.items() if queue and partner not in busy]
        begun = None if places.is_full else next(places.in_turn(waiting, 0), None)
        if begun is None:
            places.end(at_work.pop(0))
            continue
        queues[begun.partner_id].pop(0)
        places.begin(begun)
        at_work.append(begun)
        order.append(begun.partner_id)
    return order


def test_partner_with_one_job_waits_for_none_of_a_thousand_of_another() -> None:
    """https://github.com/wavelens/gradient/issues/111, https://github.com/postel-sh/postel/issues/126,
    and of workers that are all taken https://github.com/huridocs/uwazi/issues/8062: a burst of one
    tenant was drained before all later jobs of the others.
    """
    greedy = {
        partner: [replace(JOB, id=partner * 1000 + n, partner_id=partner) for n in range(1000)]
        for partner in (1, 2, 3, 4, 5)
    }
    modest = {9: [replace(JOB, id=10_000, partner_id=9)]}

    order = carried(greedy | modest, jobs_at_once=2, jobs=60)

    assert order.index(9) <= 5
    assert all(abs(order.count(partner) - 12) <= 1 for partner in greedy)
