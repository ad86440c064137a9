"""
The store's own account of how far each job is in it.

    seg:1:jobs    <job number>  ->  how many parts of its spool are in the store, or `done`
                  since         ->  unix time; every job that was done later has its mark here

A store may come back in an earlier state: a power cut takes the last second or two of an
append-only file that is synced once a second, a failover all that had not reached the replica, a
restored backup more. The remaining state is consistent, because a server keeps writes in order.
The ledger does not notice, and still counts lost parts as written and jobs as done. So each job
leaves a mark in the store after its writes. A missing mark means that the writes before it are
missing, too, and they are repeated.

A mark costs a round trip when a job begins and at each checkpoint: 0.5 ms (measured, on two busy
cores). The alternative, WAITAOF, waits for the next sync, 74 ms on average and 100 at most on
Valkey 9.1, for every checkpoint and every few hashes of the realtime door; Redis 7.0 lacks it;
and it detects neither a failover nor a restored backup.

A mark replaces only its predecessor, so a server that fell back during a job is noticed at the
next checkpoint.

In a Cluster each node falls back on its own, and a mark says nothing about writes on other nodes.
Instead, a master with an unknown run (restarted, or a promoted replica) makes `meet` drop all
marks, as if every node had lost them. Then the jobs of the last ten minutes are repeated, and
running jobs find their mark missing at the next checkpoint, and begin anew. That repeats more
than was lost, and does not require knowing what was.

    runs          ->  the runs of all masters (see masters.py) under which the marks hold

Moving slots does not matter: both nodes keep their runs. (A node that dies within a second of
receiving a slot, before its replica has the slot, loses all data of the slot except opt-outs.
`rebuild` restores the data.)
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
"""By how much a node of a Cluster may fall back: more than the lag of a replica that the cluster
still promotes (ten times its node timeout and ten seconds, 160 s by default)."""
_READ_AT_ONCE = 1000

# After a lost reply the client repeats the call, and finds the new mark in place.
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
        Return how many parts of the job are in the store, as far as the store says.

        Also 0 for an unknown job, which gets its mark now; and for a job that is done, as the mark
        no longer has the number.
        """
        held: bytes | None = await self._redis.hget(keys.JOBS.decode(), str(self._job_id))  # type: ignore[assignment] # no text: `decode_responses` is off
        self._held = held or b""
        if not self._held:
            await self.move(0)
        return 0 if self._held == DONE else int(self._held)

    @property
    def is_done(self) -> bool:
        """Whether the mark said `done` when it was last read or set."""
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
    """Return since when the store keeps marks; `None` if it keeps none."""
    found = await redis.hget(keys.JOBS.decode(), _SINCE.decode())
    return None if found is None else float(found)


async def reach_back(redis: Redis, now_s: float) -> None:
    """Move a beginning that lies in the future to now: the clock was set back."""
    await redis.hset(keys.JOBS.decode(), _SINCE.decode(), repr(now_s))


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
    Drop the marks of all jobs that ended before a moment; `job_ids` must list them all.

    The same script stores the moment: a store that falls back has both or neither.
    """
    await redis.eval(_FORGET, 1, keys.JOBS, repr(before_s), *job_ids)


async def drop(redis: Redis, job_ids: Iterable[int]) -> None:
    """Drop the marks of jobs that no ledger knows."""
    for job_id in job_ids:
        await redis.hdel(keys.JOBS.decode(), str(job_id))


async def meet(redis: Redis, found: Runs, now_s: float) -> None:
    """
    Drop all marks of a Cluster if a node may have fallen back.

    `missing` then reports the jobs of the last `FALLS_BACK_S`. A new master without slots is only
    added to the known runs.
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

# Of several loaders that see a new run, only one drops the marks.
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
