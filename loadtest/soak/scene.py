"""The target of a fault, and the waits until workers notice its start and end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.judge import Due
from loadtest.service import Service
from loadtest.soak.shared import Shared
from loadtest.soak.waves import Waves

_READY_FOR_S = 1.0


class Misbehaved(Exception):
    """The service mishandled a fault; the message describes it."""


@dataclass(frozen=True)
class Scene:
    """The target of a fault."""

    service: Service
    redis: Redis
    ledger: AsyncEngine
    waves: Waves
    shared: Shared
    dues: Sequence[Due]
    rng: Random


async def until_noticed(scene: Scene) -> None:
    """Wait for each worker: otherwise one would fail after the fault."""
    service = scene.service

    async def is_noticed() -> bool:
        return await service.unready() == service.workers

    await service.until("every worker notices that the store is gone", is_noticed)


async def until_mended(scene: Scene) -> None:
    """Wait until every worker has been ready for a while: reports lag."""
    service = scene.service
    ready_since_s: float | None = None

    async def is_mended() -> bool:
        nonlocal ready_since_s
        now_s = time.monotonic()
        if await service.unready():
            ready_since_s = None
        elif ready_since_s is None:
            ready_since_s = now_s
        return ready_since_s is not None and now_s - ready_since_s > _READY_FOR_S

    await service.until("the service is ready again", is_mended)
    scene.shared.mended(time.monotonic_ns())
