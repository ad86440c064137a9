import asyncio

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, audiences, jobs, quotas
from segments.ledger.database.engine import reading
from segments.model.day import S_PER_DAY
from segments.model.job import NO_FILE, Job
from segments.model.quota import OverQuota, Quota, Use
from tests.segments.ledger.some_jobs import NOW_S, added_partners, submit


async def limit(ledger: AsyncEngine, partner_id: int, **limits: int) -> None:
    async with ledger.begin() as conn:
        await quotas.set_quota(conn, partner_id, Quota(**limits))


async def use_of(ledger: AsyncEngine, partner_id: int, now_s: float = NOW_S) -> Use:
    async with reading(ledger) as conn:
        return await quotas.use_of(conn, partner_id, now_s)


async def test_partner_of_whom_nothing_is_set_may_deliver_anything(ledger: AsyncEngine) -> None:
    one, other = await added_partners(ledger)
    await limit(ledger, other, deliveries_per_day=0, delivered_bytes_per_day=0, kept_bytes=0)

    await submit(ledger, one, size_bytes=1 << 40)

    assert await use_of(ledger, one) == Use(1, 1 << 40, 1 << 40, 0)


async def test_of_deliveries_at_once_one_alone_gets_the_last_place(ledger: AsyncEngine) -> None:
    partner_id, _ = await added_partners(ledger)
    await limit(ledger, partner_id, deliveries_per_day=3)

    ended = await asyncio.gather(
        *(submit(ledger, partner_id, str(n)) for n in range(6)), return_exceptions=True
    )

    assert sum(isinstance(each, Job) for each in ended) == 3
    assert sum(isinstance(each, OverQuota) for each in ended) == 3
    assert (await use_of(ledger, partner_id)).deliveries_per_day == 3


async def test_same_delivery_once_more_takes_no_place(ledger: AsyncEngine) -> None:
    partner_id, _ = await added_partners(ledger)
    await limit(ledger, partner_id, deliveries_per_day=1)

    assert await submit(ledger, partner_id) == await submit(ledger, partner_id)


async def test_day_ends_at_midnight_and_the_refusal_says_when(ledger: AsyncEngine) -> None:
    partner_id, _ = await added_partners(ledger)
    await limit(ledger, partner_id, delivered_bytes_per_day=10)
    await submit(ledger, partner_id, size_bytes=7)

    with pytest.raises(OverQuota, match="10 bytes delivered a day is used up") as caught:
        await submit(ledger, partner_id, "2", size_bytes=4)

    again_s = caught.value.come_again_s
    assert again_s == S_PER_DAY - NOW_S % S_PER_DAY
    assert (await use_of(ledger, partner_id, NOW_S + again_s)).delivered_bytes_per_day == 0


async def test_file_that_is_gone_makes_room_for_another(ledger: AsyncEngine) -> None:
    partner_id, _ = await added_partners(ledger)
    await limit(ledger, partner_id, kept_bytes=10)
    job = await submit(ledger, partner_id, size_bytes=10)

    with pytest.raises(OverQuota) as caught:
        await submit(ledger, partner_id, "2", size_bytes=1)
    async with ledger.begin() as conn:
        held = await jobs.locked(conn, job.id)
        assert held is not None
        await jobs.replace_original(conn, held, without_file(held))
    await submit(ledger, partner_id, "2", size_bytes=1)

    assert caught.value.come_again_s is None


def without_file(job: Job) -> Job:
    return replace(job, blob=NO_FILE)


async def test_deleted_audience_makes_room_for_another(ledger: AsyncEngine) -> None:
    partner_id, _ = await added_partners(ledger)
    await limit(ledger, partner_id, audiences=1)

    async def add(name: str) -> int:
        async with ledger.begin() as conn:
            partner = await accounts.account(conn, partner_id)
            made = await audiences.add_audience(conn, partner, partner, name, now_s=NOW_S)
        return made.id

    first = await add("one")
    with pytest.raises(OverQuota, match="the quota of 1 audiences is used up; ask the operator"):
        await add("two")
    async with ledger.begin() as conn:
        made = await audiences.audience(conn, first)
        await audiences.delete_with_name(conn, made, now_s=NOW_S)

    assert await add("two") > first
