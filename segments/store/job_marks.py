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

In a Cluster each node falls back on its own, and a mark lies on one of them. So
there a mark is not asked whether it is behind what it stands for: as soon as a
master is met whose run is not among those noted, because it was started anew or
is a replica that was promoted, all marks are dropped (`meet`), as if every node had
lost them. Then the jobs of the last ten minutes are carried again, and those at
work find at their next checkpoint that their mark is gone, and begin anew. It is
more than was lost, and it needs nobody to know what was.

    runs          ->  the runs of all masters (see servers.py) under which the marks hold

Slots that move take no part in it: both ends keep their runs. (A node that dies in
the second in which a slot came to it, before its replica has the slot, loses what
is in the slot, however old, opt-outs excepted. `rebuild` brings it back.)
"""

from collections.abc import Iterable

from redis.asyncio import Redis

from segments.store import keys
from segments.store.reader import StoreUnusable
from segments.store.servers.masters import Runs

DONE = b"done"
_SINCE = b"since"
_RUNS = b"runs"

FALLS_BACK_S = 600.0
"""By how much a node of a Cluster may fall back: more than a replica that the cluster promotes
is behind (ten times its node timeout and ten seconds, 160 s unless it was set otherwise)."""
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
    return sorted(int(name) for name in names if name not in {_SINCE, _RUNS})


async def forget(redis: Redis, job_ids: Iterable[int], before_s: float) -> None:
    """
    Drop the marks of jobs that ended before a moment, all of which are given.

    At once with the moment: a store that falls back has both or neither.
    """
    await redis.eval(_FORGET, 1, keys.JOBS, repr(before_s), *job_ids)


async def drop(redis: Redis, job_ids: Iterable[int]) -> None:
    """Drop the marks of jobs that no ledger knows."""
    for job_id in job_ids:
        await redis.hdel(keys.JOBS.decode(), str(job_id))


async def meet(redis: Redis, found: Runs, now_s: float) -> None:
    """
    Drop the marks of a Cluster one of whose nodes may have fallen back.

    Whoever asks next for what is missing finds the jobs of the last `FALLS_BACK_S`.
    A master that has no slots yet is only made known.
    """
    held: bytes | None = await redis.hget(keys.JOBS.decode(), _RUNS.decode())  # type: ignore[assignment] # no text
    known_runs = set((held or b"").split())
    with_slots = {run for run, server in found.run_to_server.items() if server.slots}
    has_fallen_back = held is not None and bool(with_slots - known_runs)
    now_known = set(found.run_to_server) | (set() if found.is_complete else known_runs)
    if now_known != known_runs:
        runs = b" ".join(sorted(now_known))
        since = repr(now_s - FALLS_BACK_S) if has_fallen_back else ""
        await redis.eval(_MEET, 1, keys.JOBS, held or b"", runs, since)


_FORGET = """
for n = 2, #ARGV do
    redis.call('HDEL', KEYS[1], ARGV[n])
end
redis.call('HSET', KEYS[1], 'since', ARGV[1])
"""

# Of several loaders that meet a new run, one drops the marks, once.
_MEET = """
if (redis.call('HGET', KEYS[1], 'runs') or '') ~= ARGV[1] then
    return
end
local since = redis.call('HGET', KEYS[1], 'since')
if ARGV[3] ~= '' and since then
    redis.call('DEL', KEYS[1])
    if tonumber(ARGV[3]) > tonumber(since) then
        since = ARGV[3]
    end
    redis.call('HSET', KEYS[1], 'since', since)
end
redis.call('HSET', KEYS[1], 'runs', ARGV[2])
"""
