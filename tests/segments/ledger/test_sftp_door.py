"""The queries of the SFTP door: keys, deliveries, callbacks."""

from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts, callbacks, jobs
from segments.ledger.live_audience import deliveries, ssh_keys
from segments.ledger.live_audience.deliveries import Delivery
from segments.ledger.live_audience.ssh_keys import SshKey
from segments.ledger.tables import jobs as jobs_table
from segments.model.job import JobState
from segments.model.order import Order
from segments.model.refusal import Duplicate, NotFound
from tests.ledger_seed import NOW_S, Seeded, seed

FINGERPRINT = "SHA256:uNiVztksCsDhcc0u9e8BrZQ7Q6NODQYWmhTWTYP5sQ0"


def key_of(account_id: int) -> SshKey:
    return SshKey(account_id, FINGERPRINT, "ssh-ed25519 AAAA", "someone@somewhere")


async def received(
    conn: AsyncConnection, seeded: Seeded, name: str = "a", transaction_id: str = "1", **said: Any
) -> Delivery:
    return await deliveries.receive(
        conn, seeded.shop, name, said, transaction_id=transaction_id, now_s=NOW_S
    )


async def submitted(conn: AsyncConnection, seeded: Seeded, transaction_id: str) -> int:
    job = await jobs.submit(
        conn,
        door="sftp",
        partner_id=seeded.shop.id,
        owner_id=seeded.shop.id,
        order=Order(()),
        metadata={"n": transaction_id},
        blob="b",
        sha256="0" * 64,
        file_name="a.txt",
        now_s=NOW_S,
        transaction_id=transaction_id,
    )
    return job.id


async def test_key_opens_the_folder_of_its_partner_alone(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        await ssh_keys.add_key(conn, key_of(seeded.shop.id), now_s=NOW_S)

        assert await ssh_keys.authorized(conn, "shop", FINGERPRINT) == seeded.shop
        assert await ssh_keys.authorized(conn, "agency", FINGERPRINT) is None
        assert await ssh_keys.authorized(conn, "nobody", FINGERPRINT) is None
        assert await ssh_keys.authorized(conn, "shop", "SHA256:another") is None


async def test_one_key_may_open_the_folders_of_several_partners(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        for account in (seeded.shop, seeded.agency):
            await ssh_keys.add_key(conn, key_of(account.id), now_s=NOW_S)
        with pytest.raises(Duplicate):
            await ssh_keys.add_key(conn, key_of(seeded.shop.id), now_s=NOW_S)

        assert [key.account_id for key in await ssh_keys.keys(conn)] == [
            seeded.shop.id,
            seeded.agency.id,
        ]


async def test_key_opens_nothing_once_it_is_removed_or_its_partner_switched_off(
    ledger: AsyncEngine,
) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        for account in (seeded.shop, seeded.agency):
            await ssh_keys.add_key(conn, key_of(account.id), now_s=NOW_S)
        await ssh_keys.remove_key(conn, seeded.shop, FINGERPRINT)
        await accounts.set_account_active(conn, seeded.agency, False)

        assert await ssh_keys.authorized(conn, "shop", FINGERPRINT) is None
        assert await ssh_keys.authorized(conn, "agency", FINGERPRINT) is None
        with pytest.raises(NotFound):
            await ssh_keys.remove_key(conn, seeded.shop, FINGERPRINT)


async def test_same_metadata_again_is_the_same_delivery(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        first = await received(conn, seeded, transaction_id="1", n=1)
        again = await received(conn, seeded, transaction_id="2", n=1)

        assert again == first
        assert await deliveries.waiting(conn) == [(first, "shop")]


async def test_other_metadata_of_that_name_takes_its_place(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        await received(conn, seeded, transaction_id="1", n=1)
        second = await received(conn, seeded, transaction_id="2", n=2)
        other = await received(conn, seeded, "b", transaction_id="3", n=1)

        assert await deliveries.waiting(conn) == [(second, "shop"), (other, "shop")]


async def test_delivery_is_finished_when_its_job_has_ended(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        delivery = await received(conn, seeded)
        job_id = await submitted(conn, seeded, "1")
        await deliveries.taken(conn, delivery, job_id)
        assert await deliveries.waiting(conn) == []
        assert await deliveries.finished(conn) == []

        await conn.execute(jobs_table.update().values(state=JobState.DONE.value))
        assert await deliveries.finished(conn) == [(delivery._replace(job_id=job_id), "shop")]

        await deliveries.answered(conn, delivery, NOW_S)
        assert await deliveries.finished(conn) == []


async def test_transaction_has_one_job_even_after_that_has_ended(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        first = await submitted(conn, seeded, "1")
        await conn.execute(jobs_table.update().values(state=JobState.DONE.value))

        assert await submitted(conn, seeded, "1") == first
        assert await submitted(conn, seeded, "2") != first


async def test_callback_is_due_when_its_time_has_come(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        await callbacks.add(conn, "1", "https://a.example/", "{}", now_s=NOW_S)
        (callback,) = await callbacks.due(conn, NOW_S, 10)

        await callbacks.postpone(conn, callback, NOW_S + 5)
        assert await callbacks.due(conn, NOW_S, 10) == []
        assert await callbacks.due(conn, NOW_S + 5, 10) == [callback._replace(attempts=1)]

        await callbacks.remove(conn, callback)
        assert await callbacks.due(conn, NOW_S + 5, 10) == []
