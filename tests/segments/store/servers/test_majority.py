"""Who is asked beside others is not waited for, unless most hang; and the newest is trusted."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ConnectionError as RedisConnectionError

from segments.store.servers.majority import WITHIN_S, ask_majority
from segments.store.servers.sentinel import Sentinels


async def saying(word: str | None, after_s: float = 0) -> str | None:
    await asyncio.sleep(after_s)
    return word


async def test_who_hangs_is_not_waited_for_where_most_have_answered() -> None:
    began_s = time.monotonic()

    said = await ask_majority([*map(saying, ("a", "b", "c", None)), saying("never", 60)])

    assert sorted(said) == ["a", "b", "c"]
    assert time.monotonic() - began_s < WITHIN_S


async def test_most_are_waited_for() -> None:
    assert sorted(await ask_majority([saying("a"), saying("b", 0.3), saying("c", 0.3)])) == [
        "a",
        "b",
        "c",
    ]


async def test_nobody_is_waited_for_longer_than_a_second() -> None:
    began_s = time.monotonic()

    assert await ask_majority([saying("never", 60), saying("never", 60)]) == []
    assert time.monotonic() - began_s >= WITHIN_S - 0.1


class One:
    """A Sentinel that says what it was told to say."""

    def __init__(self, port: int, epoch: int, *, is_down: bool = False) -> None:
        self.state: Mapping[str, Any] = {
            "ip": "127.0.0.1",
            "port": port,
            "config-epoch": epoch,
            "is_master": True,
            "is_sdown": is_down,
            "is_odown": False,
            "num-other-sentinels": 2,
        }

    async def sentinel_masters(self) -> Mapping[str, Mapping[str, Any]]:
        return {"segments": self.state}


class Gone:
    """A Sentinel that can't be reached."""

    async def sentinel_masters(self) -> Mapping[str, Mapping[str, Any]]:
        raise RedisConnectionError("away")


def sentinels(*each: One | Gone) -> Sentinels:
    asked = Sentinels([])  # type: ignore[no-untyped-call] # redis-py
    asked.sentinels = list(each)  # type: ignore[arg-type] # they stand for clients
    return asked


async def test_the_sentinel_that_knows_of_the_latest_failover_is_believed() -> None:
    asked = sentinels(One(1, epoch=4), Gone(), One(2, epoch=5))

    assert await asked.discover_master("segments") == ("127.0.0.1", 2)


async def test_no_older_master_is_named_where_the_latest_is_down() -> None:
    """It may be up; it is no master any more."""
    asked = sentinels(One(1, epoch=4), One(2, epoch=5, is_down=True))

    with pytest.raises(MasterNotFoundError):
        await asked.discover_master("segments")


async def test_of_those_who_know_the_same_one_that_sees_the_master_is_enough() -> None:
    asked = sentinels(One(2, epoch=5, is_down=True), One(2, epoch=5))

    assert await asked.discover_master("segments") == ("127.0.0.1", 2)
