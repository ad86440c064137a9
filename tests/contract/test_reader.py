"""How the catalog is read, on every engine that we promise to run on."""

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis

from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot, RecipientEntry
from segments.store import keys
from segments.store.reader import StoreUnusable, read_catalog, read_version
from segments.store.servers.connection import connect
from tests.engines import Engine

AUDIENCE = AudienceEntry(7, 3, 2, "123", is_active=True, live_from_s=5)
ACCOUNT = AccountEntry(3, "publisher", "pub-1", "Señor", is_active=True, related_ids=(4, 5))
RECIPIENT = RecipientEntry(1, "dsp-a", is_active=True, partner_ids=(2,), hold_out=0.05)


async def publish(redis: Redis, version: int, *audiences: AudienceEntry) -> None:
    """Write a catalog, as the ledger's projection does."""
    async with redis.pipeline(transaction=True) as transaction:
        transaction.delete(keys.AUDIENCES)
        for audience in audiences:
            entry = msgspec.json.encode(audience)
            transaction.hset(keys.AUDIENCES.decode(), str(audience.id), entry.decode())
        transaction.set(keys.VERSION, version)
        await transaction.execute()


async def test_store_without_catalog_has_version_zero(redis_client: Redis) -> None:
    assert await read_version(redis_client) == 0
    assert await read_catalog(redis_client) == CatalogSnapshot(0, (), (), ())


async def test_catalog_is_read_as_it_was_written(redis_client: Redis) -> None:
    await publish(redis_client, 12, AUDIENCE)
    for key, entry in ((keys.ACCOUNTS, ACCOUNT), (keys.RECIPIENTS, RECIPIENT)):
        await redis_client.hset(key.decode(), str(entry.id), msgspec.json.encode(entry).decode())

    assert await read_version(redis_client) == 12
    assert await read_catalog(redis_client) == CatalogSnapshot(
        12, (AUDIENCE,), (ACCOUNT,), (RECIPIENT,)
    )


async def test_catalog_is_never_half_of_one_version_and_half_of_another(engine: Engine) -> None:
    """
    Version n has n audiences, while another client publishes one after the other.
    """
    audiences = [msgspec.structs.replace(AUDIENCE, id=n) for n in range(40)]
    snapshots = []
    async with connect(engine.url) as publisher, connect(engine.url) as reader:

        async def publish_all() -> None:
            for n in range(1, 41):
                await publish(publisher, n, *audiences[:n])

        publishing = asyncio.create_task(publish_all())
        while not publishing.done():
            snapshots.append(await read_catalog(reader))
        await publishing

    assert len({snapshot.version for snapshot in snapshots}) > 1
    assert all(len(snapshot.audiences) == snapshot.version for snapshot in snapshots)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("{", id="not JSON"),
        pytest.param('{"id": 7}', id="a field is missing"),
        pytest.param('{"id": "x"}', id="a field of another type"),
    ],
)
async def test_unreadable_entry_makes_the_catalog_unusable(redis_client: Redis, entry: str) -> None:
    await redis_client.hset(keys.AUDIENCES.decode(), "7", entry)

    with pytest.raises(StoreUnusable, match=r"seg:1:.catalog.:audiences holds an entry"):
        await read_catalog(redis_client)


async def test_fields_of_a_later_version_are_ignored(redis_client: Redis) -> None:
    later = {**msgspec.to_builtins(AUDIENCE), "colour": "blue"}
    await redis_client.hset(keys.AUDIENCES.decode(), "7", msgspec.json.encode(later).decode())

    assert (await read_catalog(redis_client)).audiences == (AUDIENCE,)
