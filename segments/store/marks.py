"""
What a store says of itself: how far each job is in it.

    seg:1:jobs    <job number>  ->  how many parts of its spool are in the store, or `done`
                  since         ->  unix time; every job that was done later has its mark here

A store may come back as it was a moment before: a power cut takes the last
second or two of an append-only file that is synced once a second, a failover
what had not reached the replica, a backup more than that. What is left is
whole, for a server keeps what it was told in the order in which it was told.
The ledger knows nothing of it, and goes on to say that a part was written, or a
job was done. So each job leaves a mark in the store behind what it wrote; where
the mark is missing, so is what was before it, and it is written again.

A mark costs a round trip when a job begins and one at each checkpoint: 0.5 ms
(measured, on two busy cores). WAITAOF, the other way, waits for the next sync,
74 ms on the average and 100 at most on Valkey 9.1, for every checkpoint and
every few hashes of the realtime door; Redis 7.0 has none; and neither a
failover nor a backup would be noticed.

A mark is set on top of the one that was set before, never on anything else: a
server that fell back while a job ran is noticed at the next checkpoint.

In a Cluster each node falls back on its own, and would need marks of its own.
"""

from collections.abc import Iterable

from redis.asyncio import Redis

from segments.store import keys
from segments.store.reader import StoreUnusable

DONE = b"done"
_SINCE = b"since"
_READ_AT_ONCE = 1000

# A reply that was lost makes the client ask again: then the mark is the new one already.
_MOVE = """
local held = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if held ~= ARGV[2] and held ~= ARGV[3] then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class Mark:
    """The mark of one job, in the hands of whoever carries it."""

    def __init__(self, redis: Redis, job_id: int) -> None:
        self._redis = redis
        self._job_id = job_id
        self._held = b""

    async def parts(self) -> int:
        """
        Return how many parts of the job are in the store, as far as it says.

        0 as well for a job that it does not know, which it does from now on; and
        for one that is done, of which it can't say more.
        """
        held: bytes | None = await self._redis.hget(keys.JOBS.decode(), str(self._job_id))  # type: ignore[assignment] # no text: `decode_responses` is off
        self._held = held or b""
        if not self._held:
            await self.move(0)
        return 0 if self._held == DONE else int(self._held)

    @property
    def is_done(self) -> bool:
        """Whether all of the job was in the store when it was asked last."""
        return self._held == DONE

    async def move(self, parts: int) -> None:
        """
        Note that so many parts are in the store.

        Raises:
            StoreUnusable: It is not the store any more that we have written to.
        """
        await self._move(b"%d" % parts)

    async def done(self) -> None:
        """
        Note that all of the job is in the store.

        Raises:
            StoreUnusable: As `move`.
        """
        await self._move(DONE)

    async def _move(self, to: bytes) -> None:
        moved = await self._redis.eval(_MOVE, 1, keys.JOBS, str(self._job_id), self._held, to)
        if not moved:
            raise StoreUnusable(
                "the store has lost what it was told last; what it had of the job is written again"
            )
        self._held = to


async def begin(redis: Redis, now_s: float) -> None:
    """Let a store that has no marks yet keep them from now on."""
    await redis.hsetnx(keys.JOBS.decode(), _SINCE.decode(), repr(now_s))


async def since(redis: Redis) -> float | None:
    """Return from when on the store keeps marks; `None` if it does not."""
    found = await redis.hget(keys.JOBS.decode(), _SINCE.decode())
    return None if found is None else float(found)


async def missing(redis: Redis, job_ids: Iterable[int]) -> list[int]:
    """Return those of some jobs that are not done as far as the store knows."""
    wanted = list(job_ids)
    found: list[int] = []
    for at in range(0, len(wanted), _READ_AT_ONCE):
        page = wanted[at : at + _READ_AT_ONCE]
        held = await redis.hmget(keys.JOBS.decode(), [str(job_id) for job_id in page])
        found += [job_id for job_id, mark in zip(page, held, strict=True) if mark != DONE]
    return found


async def known(redis: Redis) -> list[int]:
    """Return the numbers of all jobs that have a mark."""
    names = await redis.hkeys(keys.JOBS.decode())
    return sorted(int(name) for name in names if name != _SINCE)


async def forget(redis: Redis, job_ids: Iterable[int], before_s: float) -> None:
    """
    Drop the marks of jobs that ended before a moment, all of which are given.

    In one transaction with the moment: a store that falls back has both or neither.
    """
    async with redis.pipeline(transaction=True) as transaction:
        for job_id in job_ids:
            transaction.hdel(keys.JOBS.decode(), str(job_id))
        transaction.hset(keys.JOBS.decode(), _SINCE.decode(), repr(before_s))
        await transaction.execute()
