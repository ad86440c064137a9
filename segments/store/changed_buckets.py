"""
Which buckets have changed since a publication was last made: a bit for each, set by writers.

    seg:1:changes                  set atomically with the write to the bucket
        |  take                    atomic: added to every publication's bits, and cleared
    seg:1:changes:<name>           bits that this publication has not taken yet
        |  take
    seg:1:changes:<name>:taken     bits in hand; deleted by `done`, once published
    seg:1:changes:<name>:notes     which publisher, and its notes

Scripts that change a record set its bucket's bit (`lua/record.lua`), and RESTORE is marked in the
same transaction. `seg:1:changes` exists while there is a publication; otherwise writers only check
that.

After a failure, bits in hand are taken again. A store emptied or made anew has lost these keys:
`take` reports that, and everything must be published.

**A publisher goes on where another was killed**: before `LATEST` names a state, its publisher
leaves a note under the state's number. `resume` returns the notes of all states that `LATEST` can
name; older ones are dropped only after that.

**One publisher at a time.** The last that began or resumed owns the publication. Calls of an
earlier one are refused, as it would take bits that the owner lacks.

Bits rather than sets: a MiB for 10^9 persons, merged by BITOP at gigabytes a second. In a Cluster a
script can only use keys of its bucket's slot, so nothing is marked or published.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from segments.store import keys
from segments.store.reader import Meta, StoreUnusable
from segments.store.servers.masters import is_cluster, note_slots, notes_changes

MAX_BUCKET_BITS: Final = 27
"""16 MiB of bits, for 13 * 10^9 persons."""

FORGOTTEN_AFTER_S: Final = 7 * 86_400
"""A publication's bits are dropped after so long without publishing."""

_NOT_ZERO: Final = re.compile(rb"[^\0]")
_SET: Final = [[bit for bit in range(8) if byte & 0x80 >> bit] for byte in range(256)]
"""Byte -> its set bits."""

_OF_CLUSTER: Final = (
    "a Redis Cluster can't be published, for its scripts can't note which buckets they change:"
    " publish from a store of one server, or of one that Sentinels watch"
)

_BEGIN: Final = """
local last = tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('SETBIT', KEYS[2], last, redis.call('GETBIT', KEYS[2], last))
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('SETBIT', KEYS[3], last, 0)
redis.call('HSET', KEYS[5], 'owner', ARGV[4], 'place', ARGV[5])
"""

_IS_NOTED: Final = """
if redis.call('EXISTS', KEYS[2]) == 0 or redis.call('EXISTS', KEYS[3]) == 0
    or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0
then
    return false
end
"""

_RESUME: Final = (
    _IS_NOTED
    + """
if redis.call('EXISTS', KEYS[5]) == 0 then return false end
redis.call('HSET', KEYS[5], 'owner', ARGV[4], 'place', ARGV[5])
return redis.call('HGETALL', KEYS[5])
"""
)

_OF_OWNER: Final = (
    _IS_NOTED
    + """
if redis.call('HGET', KEYS[5], 'owner') ~= ARGV[4] then return 0 end
"""
)

_TAKE: Final = (
    _OF_OWNER
    + """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    local theirs = KEYS[2] .. ':' .. name
    if redis.call('EXISTS', theirs) == 1 then
        redis.call('BITOP', 'OR', theirs, theirs, KEYS[2])
    end
end
redis.call('BITOP', 'OR', KEYS[4], KEYS[4], KEYS[3])
for _, key in ipairs({KEYS[2], KEYS[3]}) do
    redis.call('DEL', key)
    redis.call('SETBIT', key, tonumber(ARGV[2]), 0)
end
return redis.call('GET', KEYS[4])
"""
)

_NOTE: Final = (
    _OF_OWNER
    + """
if ARGV[5] then redis.call('HSET', KEYS[5], ARGV[5], ARGV[6]) end
return 1
"""
)

_DONE: Final = (
    _OF_OWNER
    + """
if ARGV[7] == '1' then redis.call('DEL', KEYS[4]) end
for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
    if tonumber(field) and field ~= ARGV[5] then redis.call('HDEL', KEYS[5], field) end
end
redis.call('HSET', KEYS[5], 'said', ARGV[6])
return 1
"""
)

_FORGET: Final = """
local left = 0
local names = redis.call('HGETALL', KEYS[1])
for at = 1, #names, 2 do
    if names[at] == ARGV[1] or tonumber(names[at + 1]) < tonumber(ARGV[2]) then
        redis.call('HDEL', KEYS[1], names[at])
        local theirs = KEYS[2] .. ':' .. names[at]
        redis.call('DEL', theirs, theirs .. ':taken', theirs .. ':notes')
    else
        left = left + 1
    end
end
if left == 0 then redis.call('DEL', KEYS[2]) end
"""


class Publication(NamedTuple):
    """A publication, by its publisher's note."""

    place: str
    """For people."""
    made_at_s: float
    """The time in `LATEST`; 0: none was written yet."""


class OtherPublisher(StoreUnusable):
    """Another publisher has begun or resumed the publication since."""

    def __init__(self) -> None:
        super().__init__(
            "another `rtb-segments publish` has taken over this place: one of the two must be ended"
        )


class ChangedBuckets:
    """
    The changed buckets of a publication, for one of its publishers; a place has one name.

    Raises:
        StoreUnusable: The store is a Redis Cluster.
    """

    def __init__(self, redis: Redis, name: str, place: str = "") -> None:
        if is_cluster(redis):
            raise StoreUnusable(_OF_CLUSTER)
        self._redis = redis
        self._name = name
        self._place = place
        self._owner = uuid4().hex
        self._is_ousted = False
        pending = b"%s:%s" % (keys.CHANGES, name.encode())
        self._keys = (
            keys.PUBLICATIONS, keys.CHANGES, pending, pending + b":taken", pending + b":notes"
        )  # fmt: skip

    async def begin(self, meta: Meta, now_s: float) -> None:
        """
        Own the publication and mark changes; everything older must be published.

        Raises:
            StoreUnusable: The store has too many buckets for the bits.
        """
        if meta.bucket_bits > MAX_BUCKET_BITS:
            raise StoreUnusable(
                f"a store of 2^{meta.bucket_bits} buckets can't be published, 2^{MAX_BUCKET_BITS}"
                " at most"
            )
        await self._run(_BEGIN, _last(meta), int(now_s), self._place)

    async def resume(self, meta: Meta, now_s: float) -> Mapping[int, bytes] | None:
        """
        Own the publication as an earlier publisher left it.

        Returns:
            State -> its note, with all changes since marked or in hand; `None`: marks were lost.
        """
        found = await self._run(_RESUME, _last(meta), int(now_s), self._place)
        if found is None:
            return None
        pairs = zip(found[::2], found[1::2], strict=True)
        return {int(field): note for field, note in pairs if field.isdigit()}

    async def take(self, meta: Meta, now_s: float) -> list[int] | None:
        """
        Take the changed buckets, those in hand included; ascending.

        Returns:
            Buckets that may have changed; `None`: marks were lost. Then `begin`, and publish
            everything.

        Raises:
            OtherPublisher: See there.
        """
        bits: bytes | None = await self._run(_TAKE, _last(meta), int(now_s))
        return None if bits is None else numbers_of(bits)

    async def note(self, state: int | None = None, note: bytes = b"") -> bool:
        """
        Tell whether all changes since `begin` are marked; if so, leave a given note.

        A publisher resumes by it in `state`, which `LATEST` will name next.

        Raises:
            OtherPublisher: See there.
        """
        more = () if state is None else (state, note)
        return await self._run(_NOTE, 0, 0, *more) is not None

    async def done(self, state: int, made_at_s: float, *, all_taken: bool) -> None:
        """
        Note that `LATEST` names a state; drop the notes of others.

        `made_at_s` is in `LATEST`; with `all_taken` the state has all taken buckets.

        Raises:
            OtherPublisher: The owner will take the buckets again.
        """
        await self._run(_DONE, 0, 0, state, f"{made_at_s:.3f}", int(all_taken))

    async def end(self) -> None:
        """End the publication."""
        await _forget(self._redis, self._name, 0)

    async def _run(self, script: str, *arguments: bytes | str | float) -> Any:
        last, now_s, *more = arguments
        if self._is_ousted:
            # Two that oust each other would alternate for ever.
            raise OtherPublisher
        try:
            found = await self._redis.eval(
                script, len(self._keys), *self._keys, self._name, last, now_s, self._owner, *more
            )
        except ResponseError as error:
            if note_slots(self._redis, error):
                raise StoreUnusable(_OF_CLUSTER) from None
            raise
        if found == 0:
            self._is_ousted = True
            raise OtherPublisher
        return found


async def publications(redis: Redis) -> list[Publication]:
    """Return the publications of a store, also those given up within a week."""
    names: list[bytes] = await redis.execute_command("HKEYS", keys.PUBLICATIONS)  # type: ignore[no-untyped-call] # redis-py
    found = []
    for name in names:
        place, said = await redis.execute_command(  # type: ignore[no-untyped-call] # redis-py
            "HMGET", b"%s:%s:notes" % (keys.CHANGES, name), "place", "said"
        )
        found.append(Publication((place or b"").decode(), float(said or 0)))
    return found


async def forget_abandoned(redis: Redis, now_s: float) -> None:
    """Drop the bits of abandoned publications."""
    if notes_changes(redis):
        before_s = int(now_s) - FORGOTTEN_AFTER_S
        await _forget(redis, "", before_s)


async def forget_all(redis: Redis) -> None:
    """Drop the bits of all publications of a store that is made anew."""
    if notes_changes(redis):
        await _forget(redis, "", 1 << 62)


async def _forget(redis: Redis, name: str, before_s: int) -> None:
    try:
        await redis.eval(_FORGET, 2, keys.PUBLICATIONS, keys.CHANGES, name, before_s)
    except ResponseError as error:
        if not note_slots(redis, error):
            raise


def _last(meta: Meta) -> int:
    return (1 << meta.bucket_bits) - 1


def numbers_of(bits: bytes) -> list[int]:
    """Return the indexes of set bits, in Redis's order: a byte's highest first."""
    return [
        found.start() * 8 + bit for found in _NOT_ZERO.finditer(bits) for bit in _SET[found[0][0]]
    ]
