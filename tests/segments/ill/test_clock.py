"""
The clock was set by an hour: what waits goes on as if it had not been.

Real processes under a clock that is set: `tests/e2e/test_clock.py`.
"""

from msgspec.structs import replace
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import job_leases, jobs
from segments.ledger.privacy import opt_outs
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.job import JobState
from segments.model.order import Order
from segments.model.record import OptOutAction
from segments.upkeep.lost_jobs import begin_lost_again
from tests.edge.small_store import MEMBER
from tests.ledger_seed import NOW_S, seed

HOUR_S = 3600.0


async def test_opt_outs_that_wait_are_told_of_though_the_clock_was_set_back(
    ledger: AsyncEngine,
) -> None:
    person = [(IdentifierKind.EMAIL, id_of_email_hash(MEMBER))]
    async with ledger.begin() as conn:
        await opt_outs.record(conn, OptOutAction.RESTRICT, [person], now_s=NOW_S)

        waiting = await opt_outs.waiting(conn, NOW_S - HOUR_S)
        young = await opt_outs.waiting(conn, NOW_S)

    assert (waiting.requests, waiting.oldest_s) == (1, 0)
    assert young.requests == 0


async def test_job_that_a_store_has_lost_is_missed_though_the_clock_was_set_back(
    ledger: AsyncEngine, redis_client: Redis
) -> None:
    """
    A store keeps marks from a moment on, which is to come again.
    """
    seeded = await seed(ledger)
    await begin_lost_again(ledger, redis_client, NOW_S + HOUR_S)
    await begin_lost_again(ledger, redis_client, NOW_S)
    async with ledger.begin() as conn:
        await jobs.submit(
            conn, door="test", partner_id=seeded.shop.id, owner_id=seeded.shop.id, order=Order(()),
            metadata={}, blob="a", sha256="a", file_name="a", now_s=NOW_S,
        )  # fmt: skip
        claimed = await job_leases.claim(conn, NOW_S)
        assert claimed is not None
        done = replace(claimed, state=JobState.DONE, finished_at_s=NOW_S + 1)
        await job_leases.save(conn, done, NOW_S + 1)

    assert await begin_lost_again(ledger, redis_client, NOW_S + 2) == 1
