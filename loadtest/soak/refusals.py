"""
A store that answers reads and refuses writes: no opt-out may be acknowledged meanwhile.

Bids are still answered from it, so no request may pass through, unless the server becomes a
replica, which workers do not use. A wave of opt-outs begins meanwhile, and is over only when in
force. Without a wave left, the opt-out is of a person in no request.

Disk faults are excluded: no command can take the embedded store's folder away.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from redis.asyncio import Redis

from loadtest.soak.scene import Misbehaved, Scene, until_mended, until_noticed
from segments.model.identity import ID_BYTES, Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.in_force import Receipt, until_applied
from segments.projection.opt_outs import record_opt_out

_REFUSES_FOR_S = 2.0
_IN_FORCE_WITHIN_S = 30.0


class Refusal(NamedTuple):
    """Commands that make a server refuse writes, and accept them again."""

    refuse: tuple[object, ...]
    accept: tuple[object, ...]
    is_noticed: bool = False  # by workers, which then stop using it


REFUSALS: Final[Mapping[str, Refusal]] = {
    "OOM": Refusal(("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
    "NOREPLICAS": Refusal(
        ("CONFIG", "SET", "min-replicas-to-write", 1),
        ("CONFIG", "SET", "min-replicas-to-write", 0),
    ),
    "NOPERM": Refusal(
        ("ACL", "SETUSER", "default", "-@write"), ("ACL", "SETUSER", "default", "+@all")
    ),
    "READONLY": Refusal(
        ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), is_noticed=True
    ),
}
"""By the error code of a refused write."""


def refusing(code: str) -> Callable[[Scene], Awaitable[None]]:
    """Return the fault of a store that answers writes with this error."""

    async def refuse(scene: Scene) -> None:
        refusal = REFUSALS[code]
        if refusal.is_noticed:
            scene.shared.breaks()
        async with _refused(scene.redis, refusal):
            if refusal.is_noticed:
                await until_noticed(scene)
            number, receipt = await _say_no(scene)
            # After an acknowledgement, an answer that shows the persons is wrong.
            await asyncio.sleep(_REFUSES_FOR_S)
            if not receipt.waits_because:
                raise Misbehaved(f"an opt-out was acknowledged while the store answered {code}")
        if not await until_applied(scene.ledger, receipt.transaction_ids, _IN_FORCE_WITHIN_S):
            raise Misbehaved(
                f"an opt-out is not in force, though the store has written since {code}"
            )
        if number is not None:
            scene.waves.end(number)
        await until_mended(scene)

    return refuse


@asynccontextmanager
async def _refused(redis: Redis, refusal: Refusal) -> AsyncIterator[None]:
    await redis.execute_command(*refusal.refuse)  # type: ignore[no-untyped-call] # redis-py
    try:
        yield
    finally:
        await redis.execute_command(*refusal.accept)  # type: ignore[no-untyped-call] # redis-py


async def _say_no(scene: Scene) -> tuple[int | None, Receipt]:
    begun = await scene.waves.begin_no()
    if begun is not None:
        return begun
    nobody = [(IdentifierKind.EMAIL, Id(os.urandom(ID_BYTES)))]
    return None, await record_opt_out(scene.ledger, scene.redis, OptOutAction.RESTRICT, nobody)
