from collections.abc import AsyncIterator
from random import Random

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import reading
from segments.ledger.privacy import opt_outs
from segments.model.identity import Id, IdentifierKind
from segments.model.record import EVERYONE, Change, Membership, OptOut, OptOutAction, Record
from segments.model.refusal import Refusal
from segments.projection.applied_opt_outs import apply_opt_outs
from segments.projection.opt_outs import record_opt_out, record_opt_outs
from segments.store import keys
from segments.store.meta import prepare
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.cut_off import cut_off
from tests.engines import Engine
from tests.ledger_seed import seed

ADA, BOB, EVE = (Id(bytes([number]) * 16) for number in (1, 2, 3))
RESTRICTED = OptOut(EVERYONE, OptOutAction.RESTRICT)
ERASED = OptOut(EVERYONE, OptOutAction.ERASURE)


@pytest.fixture
async def redis(valkey: Engine) -> AsyncIterator[Redis]:
    """A client of a store that is laid out and empty."""
    async with connect(valkey.url, retry=None) as client:
        await prepare(client, 10_000)
        yield client


async def record_of(redis: Redis, id_: Id) -> Record:
    return (await read_records(redis, await read_meta(redis), [id_]))[0]


async def opt_out(
    ledger: AsyncEngine, redis: Redis, *ids: Id, action: OptOutAction = OptOutAction.RESTRICT
) -> str:
    receipt = await record_opt_out(
        ledger, redis, action, [(IdentifierKind.EMAIL, id_) for id_ in ids]
    )
    return receipt.waits_because


async def catch_up(ledger: AsyncEngine, redis: Redis) -> int:
    return await apply_opt_outs(ledger, redis, await read_meta(redis))


async def store_seq(redis: Redis) -> int:
    return (await read_meta(redis)).opt_outs


async def test_opt_out_is_in_force_when_it_is_acknowledged(
    ledger: AsyncEngine, redis: Redis
) -> None:
    assert await opt_out(ledger, redis, ADA, BOB) == ""

    assert await record_of(redis, ADA) == Record((RESTRICTED,))
    assert await record_of(redis, BOB) == Record((RESTRICTED,))
    assert await record_of(redis, EVE) == Record()
    assert await store_seq(redis) == 1
    assert await catch_up(ledger, redis) == 0


async def test_opt_out_recorded_while_the_store_is_down_is_applied_when_it_is_back(
    ledger: AsyncEngine, redis: Redis, valkey: Engine
) -> None:
    valkey.kill()
    waits_because = await opt_out(ledger, redis, ADA)
    valkey.start()

    assert waits_because == "the store can't be written (ConnectionError)"
    assert await record_of(redis, ADA) == Record()
    assert await catch_up(ledger, redis) == 1
    assert await record_of(redis, ADA) == Record((RESTRICTED,))
    assert await store_seq(redis) == 1


async def test_opt_out_before_there_is_a_store_says_what_it_waits_for(
    ledger: AsyncEngine, redis: Redis
) -> None:
    await redis.flushall()

    assert "seg:1:meta" in await opt_out(ledger, redis, ADA)


async def test_one_that_failed_is_not_skipped_by_the_next_that_did_not(
    ledger: AsyncEngine, redis: Redis
) -> None:
    """
    The store's number promises everything up to it. Were it moved to 2 here,
    a store that is set back to this state would lose request 1 for good.
    """
    assert await opt_out(ledger, cut_off(redis), ADA) != ""
    assert await opt_out(ledger, redis, BOB) == ""

    assert await record_of(redis, BOB) == Record((RESTRICTED,)), "in force at once all the same"
    assert await store_seq(redis) == 0
    assert await catch_up(ledger, redis) == 2
    assert await record_of(redis, ADA) == Record((RESTRICTED,))
    assert await store_seq(redis) == 2


async def test_store_that_was_lost_gets_every_opt_out_again(
    ledger: AsyncEngine, redis: Redis
) -> None:
    await opt_out(ledger, redis, ADA)
    await opt_out(ledger, redis, BOB, action=OptOutAction.ERASURE)
    await redis.flushall()
    await prepare(redis, 10_000)
    # The next request must not make the empty store look complete.
    await opt_out(ledger, redis, EVE)

    assert await store_seq(redis) == 0
    assert await catch_up(ledger, redis) == 3
    assert await record_of(redis, ADA) == Record((RESTRICTED,))
    assert await record_of(redis, BOB) == Record((ERASED,))
    assert await store_seq(redis) == 3


async def test_store_set_back_to_an_older_copy_gets_what_it_lacks(
    ledger: AsyncEngine, redis: Redis
) -> None:
    await opt_out(ledger, redis, ADA)
    await opt_out(ledger, redis, BOB)
    meta = await read_meta(redis)
    await redis.delete(keys.bucket_key(keys.bucket_of(BOB, meta.bucket_bits)))
    await redis.hset(keys.META, "opt_outs", "1")

    assert await catch_up(ledger, redis) == 1
    assert await record_of(redis, BOB) == Record((RESTRICTED,))


async def test_store_of_another_ledger_does_not_swallow_what_waits(
    ledger: AsyncEngine, redis: Redis
) -> None:
    """
    Its number is of that ledger's requests; what waits here is not among them.
    """
    await redis.hset(keys.META, "opt_outs", "1000")
    await opt_out(ledger, cut_off(redis), ADA)

    assert await catch_up(ledger, redis) == 1
    assert await record_of(redis, ADA) == Record((RESTRICTED,))


async def test_unreadable_record_keeps_only_its_own_request_waiting(
    ledger: AsyncEngine, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    meta = await read_meta(redis)
    bucket = keys.bucket_of(ADA, meta.bucket_bits)
    await redis.execute_command("HSET", keys.bucket_key(bucket), keys.field_of(ADA), b"\xff")  # type: ignore[no-untyped-call]

    assert "can't be read" in await opt_out(ledger, redis, ADA, BOB)
    assert await opt_out(ledger, redis, EVE) == ""

    assert await record_of(redis, BOB) == Record((RESTRICTED,)), "another id of the same person"
    assert await record_of(redis, EVE) == Record((RESTRICTED,))
    assert await store_seq(redis) == 0
    assert f"bucket {bucket:x}" in caplog.text
    assert ADA.hex() not in caplog.text

    await redis.delete(keys.bucket_key(bucket))
    await catch_up(ledger, redis)
    assert await record_of(redis, ADA) == Record((RESTRICTED,))
    assert await store_seq(redis) == 2


async def test_many_persons_are_recorded_and_applied_together(
    ledger: AsyncEngine, redis: Redis
) -> None:
    persons = [[(IdentifierKind.EMAIL, Id(number.to_bytes(16)))] for number in range(2500)]

    receipt = await record_opt_outs(ledger, redis, OptOutAction.RESTRICT, persons)

    assert len(set(receipt.transaction_ids)) == len(persons)
    assert receipt.waits_because == ""
    assert await store_seq(redis) == len(persons)
    await redis.flushall()
    await prepare(redis, 10_000)
    assert await catch_up(ledger, redis) == len(persons)
    ids = [id_ for person in persons for _, id_ in person]
    records = await read_records(redis, await read_meta(redis), ids)
    assert records == [Record((RESTRICTED,))] * len(persons)


async def test_persons_are_recorded_all_or_none(ledger: AsyncEngine, redis: Redis) -> None:
    with pytest.raises(Refusal, match="no person"):
        await record_opt_outs(
            ledger, redis, OptOutAction.RESTRICT, [[(IdentifierKind.EMAIL, ADA)], []]
        )

    async with reading(ledger) as conn:
        assert await opt_outs.last_seq(conn) == 0


async def test_erasure_deletes_the_memberships_that_its_account_reaches(
    ledger: AsyncEngine, redis: Redis
) -> None:
    seeded = await seed(ledger)
    writer = Writer(redis, await read_meta(redis))
    both = [Change(seeded.shoes.id, True), Change(seeded.hats.id, True)]
    await writer.merge([ADA, BOB, EVE], both)

    for id_, account in ((ADA, seeded.publisher), (BOB, seeded.agency)):
        await record_opt_out(
            ledger, redis, OptOutAction.ERASURE, [(IdentifierKind.EMAIL, id_)], account.id
        )
    await record_opt_out(ledger, redis, OptOutAction.ERASURE, [(IdentifierKind.EMAIL, EVE)])

    assert await record_of(redis, ADA) == Record(
        (OptOut(seeded.publisher.id, OptOutAction.ERASURE),), (Membership(seeded.hats.id),)
    )
    assert await record_of(redis, BOB) == Record(
        (OptOut(seeded.agency.id, OptOutAction.ERASURE),), (Membership(seeded.shoes.id),)
    )
    assert await record_of(redis, EVE) == Record((ERASED,))


async def test_restriction_deletes_nothing_and_refuses_what_comes(
    ledger: AsyncEngine, redis: Redis
) -> None:
    writer = Writer(redis, await read_meta(redis))
    await writer.merge([ADA], [Change(1, True)])
    await opt_out(ledger, redis, ADA)

    tally = await writer.merge([ADA], [Change(2, True)])

    assert tally.refused == 1
    assert await record_of(redis, ADA) == Record((RESTRICTED,), (Membership(1),))


async def test_ten_thousand_ids_are_in_force_and_no_others(
    ledger: AsyncEngine, redis: Redis
) -> None:
    """
    In whole requests, in lists of persons, and those that came while the store was away.
    """
    rng = Random(7)
    ids = [Id(rng.randbytes(16)) for _ in range(11_000)]
    others, seeded = ids[10_000:], await seed(ledger)
    shoes, hats = Membership(seeded.shoes.id), Membership(seeded.hats.id)
    writer = Writer(redis, await read_meta(redis))
    await writer.merge(ids, [Change(m.audience_id, is_add=True) for m in (shoes, hats)])

    for start in range(0, 5_000, 1_000):
        assert await opt_out(ledger, redis, *ids[start : start + 1_000]) == ""
    persons = [[(IdentifierKind.EMAIL, id_)] for id_ in ids[5_000:8_000]]
    await record_opt_outs(ledger, redis, OptOutAction.ERASURE, persons, seeded.shop.id)
    late = [[(IdentifierKind.EMAIL, id_)] for id_ in ids[8_000:10_000]]
    waits = await record_opt_outs(ledger, cut_off(redis), OptOutAction.ERASURE, late)
    applied = await catch_up(ledger, redis)

    records = await read_records(redis, await read_meta(redis), ids)
    restricted = Record((RESTRICTED,), (shoes, hats))
    erased_by_shop = Record((OptOut(seeded.shop.id, OptOutAction.ERASURE),), (hats,))
    assert records[:5_000] == [restricted] * 5_000
    assert records[5_000:8_000] == [erased_by_shop] * 3_000
    assert waits.waits_because
    assert applied == 2_000
    assert records[8_000:10_000] == [Record((ERASED,))] * 2_000
    assert records[10_000:] == [Record((), (shoes, hats))] * len(others)
    assert await store_seq(redis) == 5 + 3_000 + 2_000
