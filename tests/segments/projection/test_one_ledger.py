"""One store, one ledger: who is refused, what is said, and what a store remembers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import audiences, ledger_id
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.database.errors import LedgerUnusable
from segments.ledger.privacy import opt_outs
from segments.ledger.revision import raise_revision
from segments.model.audience import AudienceState
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.catalog import catch_up, publish_catalog
from segments.projection.in_force import Receipt, put_into_force
from segments.projection.one_ledger import (
    OtherLedger,
    before_making,
    own_meta,
    take_for_rebuild,
)
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import keys
from segments.store.reader import (
    LedgerBehind,
    read_catalog,
    read_meta,
    read_records,
    read_whose,
)
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import NOW_S, Seeded, seed
from tests.segments.backups import Backups

ADA, BOB = Id(b"a" * 16), Id(b"b" * 16)


@pytest.fixture
async def redis(valkey: Engine) -> AsyncIterator[Redis]:
    """A client of a store that nobody has laid out yet."""
    async with connect(valkey.url, retry=None) as client:
        yield client


@pytest.fixture
async def other_ledger(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An empty ledger of another id."""
    async with open_ledger(Settings(data_dir=tmp_path / "other").ledger_dsn) as opened:
        yield opened


async def id_of(ledger: AsyncEngine) -> str:
    async with reading(ledger) as conn:
        return (await ledger_id.standing(conn)).ledger_id


async def add_audience(ledger: AsyncEngine, seeded: Seeded, segment_id: str) -> int:
    async with ledger.begin() as conn:
        added = await audiences.find_or_create_audience(
            conn, seeded.shop, seeded.shop, segment_id, "Name", now_s=NOW_S
        )
    return added.id


async def restrict(ledger: AsyncEngine, redis: Redis, id_: Id) -> Receipt:
    person = [(IdentifierKind.EMAIL, id_)]
    return await record_opt_out(ledger, redis, OptOutAction.RESTRICT, person)


async def test_store_keeps_the_id_of_the_ledger_that_fills_it(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await seed(ledger)

    await catch_up(ledger, redis, settings.expected_ids)

    whose = await read_whose(redis)
    assert (whose.ledger_id, whose.is_of_empty_ledger) == (await id_of(ledger), False)


async def test_another_ledger_is_refused_and_told_which_is_which(
    ledger: AsyncEngine, other_ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    before = await read_catalog(redis)
    await add_audience(other_ledger, await seed(other_ledger), "9")

    for attempt in (
        catch_up(other_ledger, redis, settings.expected_ids),
        publish_catalog(other_ledger, redis),
        own_meta(other_ledger, redis),
    ):
        with pytest.raises(OtherLedger) as refused:
            await attempt
        assert await id_of(ledger) in str(refused.value)
        assert await id_of(other_ledger) in str(refused.value)

    assert await read_catalog(redis) == before


async def test_opt_out_by_another_ledger_says_that_it_waits_and_why(
    ledger: AsyncEngine, other_ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    """It would be gone with the next rebuild: the store's own ledger never hears of it."""
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)

    receipt = await restrict(other_ledger, redis, ADA)

    assert await id_of(ledger) in receipt.waits_because
    [record] = await read_records(redis, await read_meta(redis), [ADA])
    assert not record.opt_outs


async def test_store_of_an_empty_ledger_goes_to_the_first_that_holds_anything(
    ledger: AsyncEngine, other_ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await catch_up(other_ledger, redis, settings.expected_ids)
    await seed(ledger)

    await catch_up(ledger, redis, settings.expected_ids)

    assert (await read_whose(redis)).ledger_id == await id_of(ledger)
    with pytest.raises(OtherLedger):
        await catch_up(other_ledger, redis, settings.expected_ids)


async def test_ledger_that_was_empty_keeps_its_store_once_it_holds_something(
    ledger: AsyncEngine, other_ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await catch_up(ledger, redis, settings.expected_ids)
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    await seed(other_ledger)

    with pytest.raises(OtherLedger):
        await catch_up(other_ledger, redis, settings.expected_ids)


async def test_store_that_an_older_version_filled_goes_to_the_ledger_that_is_there(
    ledger: AsyncEngine, other_ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    await redis.hdel(keys.META.decode(), "ledger", "last_audience", "last_opt_out")

    with pytest.raises(OtherLedger, match="unnamed"):
        await catch_up(other_ledger, redis, settings.expected_ids)
    await catch_up(ledger, redis, settings.expected_ids)

    assert (await read_whose(redis)).ledger_id == await id_of(ledger)


async def test_store_that_was_emptied_goes_to_whose_loader_comes_first(
    ledger: AsyncEngine, other_ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await seed(ledger)
    await seed(other_ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    await redis.flushall()

    await catch_up(other_ledger, redis, settings.expected_ids)

    assert (await read_whose(redis)).ledger_id == await id_of(other_ledger)


async def test_no_ledger_is_made_beside_a_store_that_has_one(
    ledger: AsyncEngine, redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    elsewhere = Settings(data_dir=tmp_path / "elsewhere")

    with pytest.raises(LedgerUnusable, match=await id_of(ledger)):
        async with open_ledger(elsewhere.ledger_dsn, before_making(redis, None)):
            pass


async def test_ledger_may_be_made_where_no_embedded_store_ever_was(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")

    async with connect(settings.store_url, retry=None) as redis:
        await before_making(redis, settings.embedded_in)()


async def test_copy_that_lacks_an_audience_is_behind_and_says_both_numbers(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    seeded = await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    copy = await backups.take(ledger, settings)
    lost = await add_audience(ledger, seeded, "9")
    await catch_up(ledger, redis, settings.expected_ids)
    shown = await read_catalog(redis)

    async with open_ledger(copy.ledger_dsn) as restored:
        for attempt in (
            catch_up(restored, redis, settings.expected_ids),
            publish_catalog(restored, redis),
        ):
            with pytest.raises(LedgerBehind, match=rf"{lost - 1}, .* {lost}; .*reconcile"):
                await attempt

    assert await read_catalog(redis) == shown
    with pytest.raises(LedgerBehind):  # as bids find it, whatever ledger there is
        await read_meta(redis)


async def test_copy_that_lacks_an_opt_out_is_behind(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    copy = await backups.take(ledger, settings)
    for id_ in (ADA, BOB):
        assert not (await restrict(ledger, redis, id_)).waits_because

    async with open_ledger(copy.ledger_dsn) as restored:
        with pytest.raises(LedgerBehind, match=r"opt-out is 0, the store was told of 2"):
            await own_meta(restored, redis)


async def test_opt_out_that_a_copy_gives_a_lost_ones_number_shows_what_it_is(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    """As when the store was away at the restore: then nobody can refuse, and the numbers agree."""
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    copy = await backups.take(ledger, settings)
    await restrict(ledger, redis, ADA)

    async with open_ledger(copy.ledger_dsn) as restored:
        receipt = await restrict(restored, redis, BOB)

    assert "opt-out 1 is not the one that the store was told of" in receipt.waits_because


async def test_copy_that_lacks_a_deletion_is_behind(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    """No number tells it, but it would show again what was deleted."""
    seeded = await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    copy = await backups.take(ledger, settings)
    async with ledger.begin() as conn:
        await audiences.set_state(conn, seeded.shoes, AudienceState.DELETED, now_s=NOW_S)
    await catch_up(ledger, redis, settings.expected_ids)

    async with open_ledger(copy.ledger_dsn) as restored:
        for _ in range(2):  # once it is marked, it stays so
            with pytest.raises(LedgerBehind, match="its catalog is version"):
                await catch_up(restored, redis, settings.expected_ids)


async def test_store_is_opened_again_by_the_ledger_that_is_not_behind(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    seeded = await seed(ledger)
    copy = await backups.take(ledger, settings)
    await add_audience(ledger, seeded, "9")
    await catch_up(ledger, redis, settings.expected_ids)
    async with open_ledger(copy.ledger_dsn) as restored:
        with pytest.raises(LedgerBehind):
            await catch_up(restored, redis, settings.expected_ids)

    await catch_up(ledger, redis, settings.expected_ids)

    assert not (await read_meta(redis)).whose.behind


async def test_store_is_told_of_a_number_before_it_is_used(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    """A loader that is killed between the two must not leave a number that nobody knows of."""
    await seed(ledger)
    meta = await catch_up(ledger, redis, settings.expected_ids)
    person = [(IdentifierKind.EMAIL, ADA)]
    async with ledger.begin() as conn:
        [request] = await opt_outs.record(conn, OptOutAction.RESTRICT, [person], now_s=NOW_S)
    # So that writing fails where the bucket lies, and the meta is still written.
    await redis.set(keys.bucket_key(keys.bucket_of(ADA, meta.bucket_bits)).decode(), "no hash")

    await put_into_force(ledger, redis, [request])

    whose = await read_whose(redis)
    assert (whose.last_opt_out, whose.last_opt_out_of) == (request.seq, request.transaction_id)


async def test_copy_that_made_as_many_audiences_as_were_lost_is_behind(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    """As when the store was away meanwhile: each number agrees, and means another audience."""
    seeded = await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    copy = await backups.take(ledger, settings)
    lost = await add_audience(ledger, seeded, "9")
    await catch_up(ledger, redis, settings.expected_ids)
    shown = await read_catalog(redis)

    async with open_ledger(copy.ledger_dsn) as restored:
        for segment_id in ("77", "78"):  # as many, and then more
            assert await add_audience(restored, seeded, segment_id) >= lost
            for attempt in (
                catch_up(restored, redis, settings.expected_ids),
                publish_catalog(restored, redis),
                own_meta(restored, redis),
            ):
                with pytest.raises(LedgerBehind, match=r"is not the one .* told of.*reconcile"):
                    await attempt

    assert await read_catalog(redis) == shown


async def test_copy_that_changed_as_much_as_was_deleted_is_behind(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    """Its catalog is as new, and would show again what was deleted."""
    seeded = await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    copy = await backups.take(ledger, settings)
    async with ledger.begin() as conn:
        await audiences.set_state(conn, seeded.shoes, AudienceState.DELETED, now_s=NOW_S)
    await catch_up(ledger, redis, settings.expected_ids)

    async with open_ledger(copy.ledger_dsn) as restored:
        for state in (AudienceState.DEACTIVATED, AudienceState.ACTIVE):
            async with restored.begin() as conn:
                await audiences.set_state(conn, seeded.hats, state, now_s=NOW_S)
            with pytest.raises(LedgerBehind):
                await catch_up(restored, redis, settings.expected_ids)


async def test_copy_is_behind_a_catalog_that_the_store_was_told_of_and_never_showed(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    """A loader may write into an audience before it publishes it, and be killed between."""
    seeded = await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    copy = await backups.take(ledger, settings)
    await add_audience(ledger, seeded, "9")
    await own_meta(ledger, redis)

    async with open_ledger(copy.ledger_dsn) as restored:
        await add_audience(restored, seeded, "77")
        with pytest.raises(LedgerBehind):
            await own_meta(restored, redis)


async def test_copy_is_behind_a_store_that_was_rebuilt_since(
    ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
) -> None:
    """A rebuild takes away what the store shows, not what it was told."""
    seeded = await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    copy = await backups.take(ledger, settings)
    await add_audience(ledger, seeded, "9")
    await take_for_rebuild(ledger, redis)
    await redis.delete(keys.VERSION)

    async with open_ledger(copy.ledger_dsn) as restored:
        await add_audience(restored, seeded, "77")
        with pytest.raises(LedgerBehind):
            await catch_up(restored, redis, settings.expected_ids)


async def test_store_of_an_older_version_is_told_and_works_on(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    told = await read_whose(redis)
    await redis.hdel(keys.META.decode(), "last_revision", "last_revision_name")

    await catch_up(ledger, redis, settings.expected_ids)

    assert told.last_revision_name
    assert await read_whose(redis) == told


async def test_number_of_an_empty_ledger_is_not_held_against_the_one_that_takes_its_store(
    ledger: AsyncEngine, other_ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    async with other_ledger.begin() as conn:
        await raise_revision(conn, above=10**12)
    await catch_up(other_ledger, redis, settings.expected_ids)
    await seed(ledger)

    await catch_up(ledger, redis, settings.expected_ids)

    assert (await read_whose(redis)).ledger_id == await id_of(ledger)
