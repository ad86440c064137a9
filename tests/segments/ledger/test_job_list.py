from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts, audiences, job_audiences, jobs
from segments.ledger.database.engine import reading
from segments.ledger.job_list import JobFilter, job_of_account, job_page, last_jobs
from segments.ledger.tables import jobs as _jobs
from segments.model.account import Account, AccountKind
from segments.model.audience import Audience
from segments.model.job import Job, JobState, Planned
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.refusal import Refusal

NOW_S = 1_000_000.0


class Ledger:
    """An agency with two sub accounts, and another partner; each has deliveries."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def opened(self) -> "Ledger":
        async with self.engine.begin() as conn:
            add = accounts.add_account
            self.agency = await add(conn, AccountKind.AGENCY, "agency", "A", now_s=0)
            self.sub, self.sister = [
                await add(conn, AccountKind.ADVERTISER, name, "S", parent=self.agency, now_s=0)
                for name in ("sub", "sister")
            ]
            self.other = await add(conn, AccountKind.ADVERTISER, "other", "O", now_s=0)
            self.shoes = await self._audience(conn, self.sub, self.agency, "1")
            self.hats = await self._audience(conn, self.sub, self.agency, "2")
        return self

    async def _audience(
        self, conn: AsyncConnection, owner: Account, partner: Account, segment_id: str
    ) -> Audience:
        return await audiences.find_or_create_audience(
            conn, owner, partner, segment_id, "Shoes", now_s=0
        )

    async def delivered(
        self,
        file_name: str = "a.txt",
        *,
        partner: Account | None = None,
        owner: Account | None = None,
        state: JobState = JobState.DONE,
        at_s: float = NOW_S,
        changed: Sequence[tuple[Audience, SegmentAction]] = (),
    ) -> Job:
        async with self.engine.begin() as conn:
            job = await jobs.submit(
                conn,
                door="test",
                partner_id=(partner or self.agency).id,
                owner_id=(owner or self.sub).id,
                order=Order((SegmentOrder("1", "Shoes", SegmentAction.ADD),)),
                blob="blob",
                sha256=file_name,
                file_name=file_name,
                metadata={},
                now_s=at_s,
            )
            await conn.execute(update(_jobs).where(_jobs.c.id == job.id).values(state=state))
            planned = [Planned("1", action, audience.id) for audience, action in changed]
            await job_audiences.note(conn, job.id, planned)
        return job

    async def names(self, **wanted: Any) -> list[str]:
        async with reading(self.engine) as conn:
            page = await job_page(conn, JobFilter(**wanted))
        return [job.file_name for job in page.rows]


@pytest.fixture
async def listed(ledger: AsyncEngine) -> Ledger:
    return await Ledger(ledger).opened()


async def test_list_is_newest_first_and_each_account_sees_its_own(listed: Ledger) -> None:
    await listed.delivered("one")
    await listed.delivered("two", owner=listed.sister)
    await listed.delivered("three", partner=listed.other, owner=listed.other)

    assert await listed.names() == ["three", "two", "one"]
    assert await listed.names(account=listed.agency) == ["two", "one"]
    assert await listed.names(account=listed.sub) == ["one"]
    assert await listed.names(account=listed.sister) == ["two"]
    assert await listed.names(account=listed.other) == ["three"]


async def test_list_is_narrowed_by_state_time_and_text(listed: Ledger) -> None:
    await listed.delivered("Opens-90D.txt", at_s=NOW_S, state=JobState.FAILED)
    last = await listed.delivered("100%_sure.txt", at_s=NOW_S + 10)

    assert await listed.names(states=[JobState.FAILED]) == ["Opens-90D.txt"]
    assert await listed.names(states=[JobState.HELD]) == []
    assert await listed.names(since_s=NOW_S + 10) == ["100%_sure.txt"]
    assert await listed.names(until_s=NOW_S + 10) == ["Opens-90D.txt"]
    assert await listed.names(since_s=NOW_S + 11) == []
    assert await listed.names(text="opens-90d") == ["Opens-90D.txt"]
    assert await listed.names(text="0%_s") == ["100%_sure.txt"]
    assert await listed.names(text="100_") == []
    assert await listed.names(text=last.transaction_id) == ["100%_sure.txt"]
    assert await listed.names(text=last.transaction_id[:8]) == []


async def test_list_by_time_holds_jobs_from_before_the_clock_was_set_back(listed: Ledger) -> None:
    await listed.delivered("later", at_s=NOW_S + 100)
    await listed.delivered("earlier", at_s=NOW_S)

    assert await listed.names(since_s=NOW_S + 50) == ["later"]
    assert await listed.names(until_s=NOW_S + 50) == ["earlier"]


async def test_list_by_audience_names_a_job_once(listed: Ledger) -> None:
    add, remove = SegmentAction.ADD, SegmentAction.REMOVE
    await listed.delivered("both", changed=[(listed.shoes, add), (listed.shoes, remove)])
    await listed.delivered("hats", changed=[(listed.hats, add)])
    last = await listed.delivered("last", changed=[(listed.shoes, add)])

    assert await listed.names(audience_id=listed.shoes.id) == ["last", "both"]
    assert await listed.names(audience_id=listed.shoes.id, text="bo") == ["both"]
    assert await listed.names(audience_id=listed.shoes.id, account=listed.other) == []
    async with reading(listed.engine) as conn:
        found = await last_jobs(conn, [listed.shoes.id, listed.hats.id, 10**6])
    assert found[listed.shoes.id].id == last.id
    assert found[listed.hats.id].file_name == "hats"
    assert len(found) == 2


@pytest.mark.parametrize("by_audience", [False, True], ids=["all", "by audience"])
async def test_pages_show_each_row_once_while_rows_come_in(
    listed: Ledger, by_audience: bool
) -> None:
    for number in range(5):
        await listed.delivered(str(number), changed=[(listed.shoes, SegmentAction.ADD)])
    wanted = JobFilter(audience_id=listed.shoes.id if by_audience else None)
    seen: list[str] = []
    cursor = None

    for new in ("a", "b", "c"):
        async with reading(listed.engine) as conn:
            page = await job_page(conn, wanted, limit=2, cursor=cursor)
        seen += [job.file_name for job in page.rows]
        cursor = page.next_cursor
        await listed.delivered(new, changed=[(listed.shoes, SegmentAction.ADD)])

    assert seen == ["4", "3", "2", "1", "0"]
    assert cursor is None


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "%", "ä", "YXVkaXQ6MQ", "ZGVsaXZlcmllczp4", "ZGVsaXZlcmllczotMQ", "A" * 1000],
    ids=[
        "empty",
        "short",
        "no base64",
        "no ASCII",
        "of another list",
        "no number",
        "negative",
        "long",
    ],
)
async def test_text_that_is_no_cursor_is_refused(listed: Ledger, cursor: str) -> None:
    async with reading(listed.engine) as conn:
        with pytest.raises(Refusal, match="cursor"):
            await job_page(conn, JobFilter(), cursor=cursor)


async def test_job_of_another_account_is_not_found(listed: Ledger) -> None:
    job = await listed.delivered()

    async with reading(listed.engine) as conn:
        found = [
            await job_of_account(conn, account, job.transaction_id)
            for account in (listed.agency, listed.sub, listed.sister, listed.other)
        ]

    assert [each and each.id for each in found] == [job.id, job.id, None, None]
