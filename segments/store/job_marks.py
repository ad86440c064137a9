"""
The store's own account of how far each job is in it.

    seg:1:jobs    <job number>  ->  how many parts of its spool are in the store, or `done`
                  since         ->  unix time; every job that was done later has its mark here

A store may fall back to an earlier state: by a second or two in a power cut (the append-only file
is synced once a second), by the replica's lag in a failover, by more from a backup. The ledger
still counts lost parts as written. So each job marks the store after its writes, which a server
keeps in order: where a mark is missing, the writes before it may be, too, and are repeated.

A mark costs 0.5 ms at a job's start and each checkpoint (measured, on two busy cores). WAITAOF
waits for the next sync, 74 ms on average on Valkey 9.1; Redis 7.0 lacks it; and it detects no
failover or restored backup.

A mark replaces only its predecessor, so a fallback during a job is noticed at the next checkpoint.

In a Cluster each node falls back on its own, and a mark says nothing about other nodes' writes. So
at a master's unknown run (a restart or promotion) `meet` drops all marks: jobs of the last ten
minutes are repeated, and running jobs restart at the next checkpoint.

    runs          ->  the runs of all masters (see masters.py) under which the marks hold

Moving slots does not matter: both nodes keep their runs. (A node that dies within a second of
receiving a slot, before its replica has it, loses the slot's data except opt-outs, until a
`rebuild`.)
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
"""
The most that a Cluster's node falls back: over the lag at which a replica is still promoted (ten
node timeouts and ten seconds, 160 s by default).
"""
_READ_AT_ONCE = 1000

# A call repeated after a lost reply finds the new mark in place.
_MOVE = """
local held = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if held ~= ARGV[2] and held ~= ARGV[3] then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class Mark:
    """The mark of a job, for the loader at work."""

    def __init__(self, redis: Redis, job_id: int) -> None:
        self._redis = redis
        self._job_id = job_id
        self._held = b""

    async def parts(self) -> int:
        """
        Return how many parts the store has of an unfinished job, by its own account.

        An unknown job gets its mark now.
        """
        held: bytes | None = await self._redis.hget(keys.JOBS.decode(), str(self._job_id))  # type: ignore[assignment] # no text: `decode_responses` is off
        self._held = held or b""
        if not self._held:
            await self.move(0)
        return 0 if self._held == DONE else int(self._held)

    @property
    def is_done(self) -> bool:
        """Whether the mark was last `done`."""
        return self._held == DONE

    async def move(self, parts: int) -> None:
        """
        Note that so many parts are in the store.

        Raises:
            StoreUnusable: The store has lost our last mark.
        """
        await self._move(b"%d" % parts)

    async def done(self) -> None:
        """
        Note that the whole job is in the store.

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
    """Start keeping marks in a store that has none yet."""
    await redis.hsetnx(keys.JOBS.decode(), _SINCE.decode(), repr(now_s))


async def since(redis: Redis) -> float | None:
    """Return since when the store keeps marks, if at all."""
    found = await redis.hget(keys.JOBS.decode(), _SINCE.decode())
    return None if found is None else float(found)


async def reach_back(redis: Redis, now_s: float) -> None:
    """Move a beginning that lies in the future to now: the clock was set back."""
    await redis.hset(keys.JOBS.decode(), _SINCE.decode(), repr(now_s))


async def missing(redis: Redis, job_ids: Iterable[int]) -> list[int]:
    """Return the jobs that the store does not know as done."""
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
    Drop the marks of all jobs that ended before a moment; `job_ids` must list them all.

    One script stores the moment, too: both or neither survive a fallback.
    """
    await redis.eval(_FORGET, 1, keys.JOBS, repr(before_s), *job_ids)


async def drop(redis: Redis, job_ids: Iterable[int]) -> None:
    """Drop the marks of jobs that no ledger knows."""
    for job_id in job_ids:
        await redis.hdel(keys.JOBS.decode(), str(job_id))


async def meet(redis: Redis, found: Runs, now_s: float) -> None:
    """
    Drop all marks of a Cluster if a node may have fallen back.

    New masters without slots are only added to the known runs.
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

# Only one of several loaders drops the marks.
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
