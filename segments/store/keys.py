"""
Every key this service owns in Redis. If it is not here, it is not ours.

    key                          type     TTL    holds
    seg:1:m:<bucket>             hash     none   8 bytes of the id -> packed record (record.py)
    seg:1:meta                   hash     none   layout, bucket_bits, opt_outs, ledger...: see below
    seg:1:{catalog}:audiences    hash     none   audience id -> JSON that the bid path needs of it
    seg:1:{catalog}:accounts     hash     none   account id -> JSON, likewise
    seg:1:{catalog}:recipients   hash     none   recipient id -> JSON, likewise
    seg:1:{catalog}:version      string   none   the ledger's revision that the three hashes show
    seg:1:{catalog}:lease        string   none   the longest lease on them; see catalog_lease.py
    seg:1:changed                channel  -      a message, the new version, after each change
    seg:1:probe[:{<slot's tag>}] hash     -      within a script only: how are hashes packed?
    seg:1:rebuild                string   none   the rebuild at work; see below
    seg:1:fresh[:{<slot's tag>}] string   none   raised by each loader; see freshness.py
    seg:1:replica_reads          string   none   somebody reads from replicas; see replica_reads.py
    seg:1:replica_reads:written:{<slot's tag>}  string  none  what WAIT is for
    seg:1:swept                  string   none   the day (record.py) of the last sweep
    seg:1:jobs                   hash     none   how far each job is in the store: see job_marks.py
    seg:1:seen:<day>             string   a month bits of the ids seen in bids: see seen.py
    seg:1:caching                string   none   the lease of who caches, ms; since: see
    cache_lease.py

The `1` is the layout version. A new layout gets a new number and is written
beside the old one, so a rollback finds its data where it left it. The braces
are Redis Cluster's: the keys of the catalog share a slot, and so can be
written and read in one transaction.

About a hundred persons share one bucket. A key of its own costs a person 70 to
170 bytes of overhead; a field of a listpack costs two or three. An id of 16
bytes comes apart so:

    byte   0           4                       12          16
           |  bucket   |         field         |  dropped  |
           | top bits  |  8 bytes              |           |

    bucket = the first 32 bits >> (32 - bucket_bits), in lower-case hex, no padding

`bucket_bits` is fixed when a store is created and kept in `seg:1:meta`. The
bits between the bucket's and the field's are not stored, so two ids are told
apart by bucket_bits + 64 bits: among 10^9 ids in 2^23 buckets the chance of any
collision is 3 in 10^9. It also means that a store is moved to more buckets by
rebuilding it from the ledger and the blobs, not by reading it alone.

`seg:1:meta` fields: `layout` (this module's version), `bucket_bits`,
`opt_outs` (the last of the ledger's opt-outs, by sequence number, that the
store has applied), `caught_up` (the run of the server, by the name that it gives
itself anew at each start or promotion, in which whoever knows the ledger has brought
in all that it said until then; in a Cluster those of all masters, with spaces
between). Bids are answered only from a run that is caught up: an
opt-out may have come while the server was down. A store without `layout`, or with
another one, is nobody's: it is not read and not written. While
`seg:1:rebuild` stands there and no layout, the store belongs to the rebuild of
that name alone, which writes the layout last.

The meta also says whose the store is, and outlives a rebuild in that: `ledger` (the
id of the ledger that it belongs to), `of_empty_ledger` (there while that ledger held
nothing when it took the store), `last_audience` and `last_opt_out` (the highest numbers
that it was ever told, written before whatever they are used in), `last_opt_out_of` (the
transaction id of that opt-out), `last_revision` and `last_revision_name` (likewise of the
catalog) and `behind` (by how much a ledger was found to be behind these; while it stands
there, nobody reads or writes). See `segments.projection.one_ledger`.
"""

from binascii import crc_hqx  # CRC-16/XMODEM, which is the one of Redis Cluster
from functools import cache
from typing import Final

LAYOUT: Final = 1
MIN_BUCKET_BITS: Final = 4
MAX_BUCKET_BITS: Final = 32
PERSONS_PER_BUCKET: Final = 100

ID_BYTES: Final = 16
FIELD_BYTES: Final = 8
FIELD_START: Final = 4
FIELD_END: Final = FIELD_START + FIELD_BYTES

META: Final = b"seg:1:meta"
AUDIENCES: Final = b"seg:1:{catalog}:audiences"
ACCOUNTS: Final = b"seg:1:{catalog}:accounts"
RECIPIENTS: Final = b"seg:1:{catalog}:recipients"
VERSION: Final = b"seg:1:{catalog}:version"
CATALOG_LEASE: Final = b"seg:1:{catalog}:lease"
CHANGED: Final = b"seg:1:changed"
PROBE: Final = b"seg:1:probe"
REBUILD: Final = b"seg:1:rebuild"
SWEPT: Final = b"seg:1:swept"
BUCKET_PREFIX: Final = b"seg:1:m:"
JOBS: Final = b"seg:1:jobs"
REPLICA_READS: Final = b"seg:1:replica_reads"
CACHING: Final = b"seg:1:caching"
FRESH: Final = b"seg:1:fresh"

SLOTS: Final = 16384
"""How many there are in any Redis Cluster."""


def bucket_bits_for(expected_ids: int) -> int:
    """Return how many bits number the buckets of a store for that many ids."""
    wanted = max(1, expected_ids // PERSONS_PER_BUCKET)
    # Round to the nearer power of two, up from its geometric middle.
    bits = wanted.bit_length() - 1
    if wanted * wanted > 2 << (2 * bits):
        bits += 1
    return min(max(bits, MIN_BUCKET_BITS), MAX_BUCKET_BITS)


def bucket_of(id_: bytes, bucket_bits: int) -> int:
    """Return the number of the bucket that holds an id."""
    # Written out: compiled, that is four steps; `int.from_bytes` a slice and a call.
    return (id_[0] << 24 | id_[1] << 16 | id_[2] << 8 | id_[3]) >> (32 - bucket_bits)


def bucket_key(bucket: int) -> bytes:
    """Return the key of a bucket."""
    return b"seg:1:m:%x" % bucket


def field_of(id_: bytes) -> bytes:
    """Return the field of an id within its bucket."""
    return id_[FIELD_START:FIELD_END]


def id_in_bucket(bucket: int, field: bytes, bucket_bits: int) -> bytes:
    """Return an id that has a bucket and a field: all that a store still knows of one."""
    return (
        (bucket << (32 - bucket_bits)).to_bytes(FIELD_START) + field + bytes(ID_BYTES - FIELD_END)
    )


def ids_in_finer_buckets(id_: bytes, known_bits: int, bucket_bits: int) -> list[bytes]:
    """
    Return an id for each bucket that one may lie in of which only so many bits are known.

    Args:
        id_: As `id_in_bucket` made it.
        known_bits: Of the store that it comes from.
        bucket_bits: Of the store that is asked about; with no more, there is one.
    """
    free_bits = max(bucket_bits - known_bits, 0)
    if not free_bits:
        return [id_]
    prefix = int.from_bytes(id_[:FIELD_START])
    return [
        (prefix | n << (32 - bucket_bits)).to_bytes(FIELD_START) + id_[FIELD_START:]
        for n in range(1 << free_bits)
    ]


def seen_key(day: int) -> bytes:
    """Return the key of the ids seen on a day, as `record.day_of` counts."""
    return b"seg:1:seen:%d" % day


def slot_of(key: bytes) -> int:
    """Return the slot of a key in a Redis Cluster: its CRC-16, or that of what stands in braces."""
    # https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    start = key.find(b"{") + 1
    if start:
        end = key.find(b"}", start)
        if end > start:
            key = key[start:end]
    return crc_hqx(key, 0) & (SLOTS - 1)


@cache
def tag_of(slot: int) -> bytes:
    """Return what a key has in braces so that it lies in a slot."""
    n = 0
    while slot_of(b"%d" % n) != slot:
        n += 1
    return b"%d" % n


def fresh_key(slot: int | None = None) -> bytes:
    """Return the key of a server's own number; `slot` is one that it has, in a Cluster."""
    return FRESH if slot is None else b"%s:{%s}" % (FRESH, tag_of(slot))
