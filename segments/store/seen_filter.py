"""
Ids that were seen in bids, where the operator wants to know: bits, and no ids.

    seg:1:seen:<day>    a Bloom filter of the ids looked up on that day (record.py's, UTC)

    id      | 32 bits | 32 bits | 32 bits | 32 bits |     16 bytes, a hash already
               & mask    & mask    & mask    & mask       4 probes: offsets of bits, as
                                                          SETBIT counts them

Off by default. It answers one question, by `segments.ingest.seen_in_bids`: how many ids of
an uploaded file have been in a bid lately? No bid is stored, and no id can be read
out of the bits; who already has an id can ask whether it was seen.

- **A day is forgotten as a whole.** Each write says when: at the end of the
  `SEEN_DAYS`th day after. Nothing else forgets; an ERASURE can't be taken out of
  a Bloom filter, for its bits are others' too. But the person's record then says
  what may be done, and it counts before any bit.
- **Who said no is not remembered.** Neither is whoever could not be asked about:
  `rtb.server.bids` adds the ids of a bid when the store has said that it may be answered.
- **Each day is asked by itself.** One filter of all days' bits together would say yes
  far too often: of 31 days with 5 million other ids each, to 96 of 100 that it never saw.

A day says yes to an id that it never saw with a chance of (1 - e^(-kn/m))^k, where
m = 2^27 bits, k = 4 probes, n = ids of that day; one of 31 such days, at most:

    n             a day        31 days
    1 million     7.4e-7       2.3e-5
    5 million     3.7e-4       1.1e-2
    10 million    4.4e-3       1.3e-1

A day takes 16 MiB of the store from its first ids on (to make them keeps it busy for
1 to 20 ms, once), all days up to 496 MiB. Nothing can bring the bits back: who empties
the store loses them, and a rebuild leaves them alone. A day with a gap is no fault, only
fewer ids that were seen.
"""

from collections.abc import Collection
from struct import Struct
from typing import TYPE_CHECKING, Final

from redis.exceptions import NoScriptError

from segments.model.day import S_PER_DAY
from segments.model.identity import Id
from segments.model.record import day_of
from segments.store.keys import seen_key
from segments.store.scripts import SEEN
from segments.store.servers.masters import load_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

SEEN_DAYS: Final = 30
"""How long a day is remembered after it is over. No setting: both planes must say the same."""

BITS: Final = 1 << 27
BITS_MASK: Final = BITS - 1
PROBES: Final = 4

IDS_PER_WRITE: Final = 64
"""What one write should carry: the store is busy with it, and answers no bid, for 0.3 to 0.6 ms."""

_WORDS: Final = Struct(f">{PROBES}I")


def probes(id_: Id) -> tuple[int, ...]:
    """Return the offsets of the bits that an id sets, each below `BITS`."""
    return tuple([word & BITS_MASK for word in _WORDS.unpack(id_)])


def days_remembered(today: int) -> range:
    """Return the days that may still have a filter, as `record.day_of` counts."""
    return range(today - SEEN_DAYS, today + 1)


def forgotten_at_s(at_s: float) -> int:
    """Return the unix time at which the day of another one is forgotten."""
    return (int(at_s // S_PER_DAY) + 1 + SEEN_DAYS) * S_PER_DAY


async def remember(redis: "Redis", ids: Collection[Id], at_s: float) -> None:
    """
    Set the bits of ids, in one round trip; again, it changes nothing.

    Args:
        redis: A store that is ours: its meta has been read.
        ids: `IDS_PER_WRITE` at most, so that nobody waits for it.
        at_s: Unix time at which they were seen.

    Raises:
        redis.exceptions.RedisError: The store did not do it, or did not say so.
    """
    offsets = b"".join([_WORDS.pack(*probes(id_)) for id_ in ids])
    arguments = (seen_key(day_of(at_s)), offsets, forgotten_at_s(at_s))
    # A script: at no moment are there bits that nothing would forget. Measured, of an id:
    # 2.5 µs here and 8 in the store, 4 if it was seen that day; a SETBIT for each bit
    # costs 45 and 5, for redis-py packs each in Python.
    try:
        await redis.evalsha(SEEN.sha, 1, *arguments)
    except NoScriptError:
        await load_script(redis, SEEN.source)
        await redis.evalsha(SEEN.sha, 1, *arguments)
