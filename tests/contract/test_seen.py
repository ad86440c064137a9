"""What is remembered of bids, on every engine that we promise to run on."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from segments.ingest.parse import Ids
from segments.ingest.seen_in_bids import seen_in_bids
from segments.model.identity import Id
from segments.model.record import day_of
from segments.store import keys, rebuild_claim
from segments.store.reader import Meta
from segments.store.seen_filter import BITS, SEEN_DAYS, forgotten_at_s, probes, remember

NOW_S = time.time()
TODAY = day_of(NOW_S)
S_PER_DAY = 86_400
RNG = np.random.default_rng(5)
IDS = [Id(row.tobytes()) for row in RNG.integers(0, 256, (8, 16), np.uint8)]


def array_of(ids: Sequence[Id]) -> Ids:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(len(ids), 16)


class Asking:
    """Batches of ids, as a spool gives them, and how often somebody said "still here"."""

    def __init__(self, *batches: Sequence[Id]) -> None:
        self.batches = [array_of(batch) for batch in batches]
        self.calls = 0

    def __call__(self) -> Iterator[Ids]:
        return iter(self.batches)

    async def still_here(self) -> None:
        self.calls += 1

    async def seen(self, redis: Redis, today: int = TODAY) -> list[list[bool]] | None:
        found = await seen_in_bids(redis, today, [self], self.still_here)
        if found is None:
            return None
        [seen] = found
        return [seen.mask(n, ids).tolist() for n, ids in enumerate(self.batches)]


async def test_store_sets_the_bits_of_the_probes_and_no_other(redis_client: Redis) -> None:
    await remember(redis_client, IDS[:2], NOW_S)

    key = keys.seen_key(TODAY)
    bits = {bit for id_ in IDS[:2] for bit in probes(id_)}
    assert await redis_client.bitcount(key) == len(bits)
    assert all([await redis_client.getbit(key, bit) for bit in bits])
    assert await redis_client.keys() == [key]
    assert await redis_client.strlen(key) <= BITS // 8
    assert await redis_client.expiretime(key.decode()) == forgotten_at_s(NOW_S)


async def test_what_was_remembered_already_is_not_written_again(redis_client: Redis) -> None:
    await remember(redis_client, IDS[:2], NOW_S)
    await redis_client.config_resetstat()

    await remember(redis_client, IDS[:2], NOW_S)

    commands = await redis_client.info("commandstats")
    assert "cmdstat_getbit" in commands
    assert not {"cmdstat_setbit", "cmdstat_expireat"} & commands.keys()


async def test_ids_are_found_on_whichever_day_they_were_seen(redis_client: Redis) -> None:
    for days_ago, id_ in ((0, IDS[0]), (1, IDS[1]), (SEEN_DAYS, IDS[2])):
        await remember(redis_client, [id_], NOW_S - days_ago * S_PER_DAY)
    asking = Asking(IDS[:4], [IDS[4]], [IDS[1], IDS[5]])

    assert await asking.seen(redis_client) == [[True, True, True, False], [False], [True, False]]
    assert asking.calls == 9


async def test_day_that_is_over_too_long_is_not_asked(redis_client: Redis) -> None:
    await remember(redis_client, [IDS[0]], NOW_S)

    assert await Asking(IDS).seen(redis_client, TODAY + SEEN_DAYS) is not None
    assert await Asking(IDS).seen(redis_client, TODAY + SEEN_DAYS + 1) is None


async def test_bits_of_two_days_are_not_put_together(redis_client: Redis) -> None:
    """An id whose bits were set half yesterday and half today was never seen."""
    a, b = IDS[0], IDS[1]
    await remember(redis_client, [a], NOW_S)
    await remember(redis_client, [b], NOW_S - S_PER_DAY)

    assert await Asking([Id(a[:8] + b[8:])]).seen(redis_client) == [[False]]


async def test_store_without_filters_is_asked_once_and_no_batch_is_looked_at(
    redis_client: Redis,
) -> None:
    asking = Asking(IDS)
    await redis_client.config_resetstat()

    found = await asking.seen(redis_client)

    commands = await redis_client.info("commandstats")
    assert found is None
    assert asking.calls == 0
    assert commands["cmdstat_exists"]["calls"] == SEEN_DAYS + 1
    assert "cmdstat_get" not in commands


async def test_emptied_store_forgets_and_remembers_anew(redis_client: Redis) -> None:
    await remember(redis_client, IDS[:1], NOW_S)
    await redis_client.flushall()
    await redis_client.script_flush()
    assert await Asking(IDS[:2]).seen(redis_client) is None

    await remember(redis_client, IDS[1:2], NOW_S)

    assert await Asking(IDS[:2]).seen(redis_client) == [[False, True]]


@pytest.mark.usefixtures("meta")
async def test_rebuild_leaves_what_no_ledger_could_bring_back(redis_client: Redis) -> None:
    await remember(redis_client, IDS[:1], NOW_S)

    await rebuild_claim.take(redis_client)
    await rebuild_claim.wipe(redis_client)

    assert sorted(await redis_client.keys()) == sorted(
        [keys.META, keys.REBUILD, keys.seen_key(TODAY)]  # whose the store is stays
    )
    assert await Asking(IDS[:2]).seen(redis_client) == [[True, False]]


async def test_store_that_can_not_be_written_says_so(redis_client: Redis, meta: Meta) -> None:
    await redis_client.hset(keys.seen_key(TODAY).decode(), "not", "a filter")

    with pytest.raises(ResponseError):
        await remember(redis_client, IDS, NOW_S)
