"""
Every key of this service in Redis. Any other key is not ours.

    key                          type     TTL    content
    seg:1:m:<bucket>             hash     none   8 bytes of the id -> packed record (record.py)
    seg:1:meta                   hash     none   layout, bucket_bits, opt_outs, ledger...: see below
    seg:1:{catalog}:audiences    hash     none   audience id -> JSON for the bid path
    seg:1:{catalog}:accounts     hash     none   account id -> JSON, likewise
    seg:1:{catalog}:recipients   hash     none   recipient id -> JSON, likewise
    seg:1:{catalog}:version      string   none   the ledger's revision that the three hashes show
    seg:1:{catalog}:lease        string   none   the longest lease on them; see catalog_lease.py
    seg:1:changed                channel  -      the new version, after each change
    seg:1:probe[:{<slot's tag>}] hash     -      within a script only: how are hashes packed?
    seg:1:rebuild                string   none   the claim of a running rebuild; see below
    seg:1:refill                 string   30 s   the loader that refills an empty store
    seg:1:fresh[:{<slot's tag>}] string   none   raised by each loader; see freshness.py
    seg:1:reapplied[:{<slot's tag>}] string 1 h   a server that lost its part has all opt-outs again
    seg:1:replica_reads          string   none   workers read from replicas; see replica_reads.py
    seg:1:replica_reads:written:{<slot's tag>}  string  none  a write for WAIT to confirm
    seg:1:swept                  string   none   the day (record.py) of the last sweep
    seg:1:counted                string   10 min a loader has looked for a due census: census.py
    seg:1:jobs                   hash     none   how far each job is; see job_marks.py
    seg:1:changes[:<name>[:taken]]  string  none  a bit for each bucket; see changed_buckets.py
    seg:1:changes:<name>:notes   hash     none   the publisher's, for its successor; likewise
    seg:1:publications           hash     none   name of a publication -> when it was last made
    seg:1:seen:<day>             string   a month bits of ids seen in bids; see seen_filter.py
    seg:1:rate:<account>         string   until empty  requests of an account; see request_rate.py
    seg:1:caching                string   none   near caches' lease, ms; since: see cache_lease.py

The `1` is the layout version. A new layout gets new keys, so a rollback finds its data in place.
Braces put the catalog's keys into one slot, so a script can write them all in a Cluster.

About a hundred persons share a bucket: a key each costs 70 to 170 bytes of overhead, a listpack's
field two or three. A 16-byte id is split:

    byte   0           4                       12          16
           |  bucket   |         field         |  dropped  |
           | top bits  |  8 bytes              |           |

    bucket = the first 32 bits >> (32 - bucket_bits), in lower-case hex, no padding

`bucket_bits` is fixed when a store is created. bucket_bits + 64 bits distinguish ids (10^9 ids in
2^23 buckets: any collision has a chance of 3 in 10^9), and more buckets need a rebuild from ledger
and blobs.

`seg:1:meta` fields:

    layout        this module's version
    bucket_bits   see above
    opt_outs      the ledger's number of the last opt-out that the store has applied
    caught_up     the server's run in which a loader has applied every opt-out of the ledger; a
                  run begins with a start or a promotion. In a Cluster: all masters' runs,
                  separated by spaces
    unfilled      set from the layout until a rebuild, or until a loader has found that the ledger
                  has no file that was in the store; also set after a server lost its part

Only a caught-up run answers bids: an opt-out may have come while the server was down. A store with
another `layout` or none is neither read nor written, except by the rebuild in `seg:1:rebuild`.

These fields tell the owner, and survive a rebuild (see `segments.projection.one_ledger`):

    ledger              id of the ledger that owns the store
    of_empty_ledger     set if that ledger was empty when it took the store
    last_audience       the highest number that the store was ever told, set before its first use
    last_opt_out        likewise
    last_opt_out_of     that opt-out's transaction id
    last_revision       the catalog's highest revision, likewise
    last_revision_name  that revision's name
    behind              how far a ledger was found behind these; blocks all reads and writes
"""

from binascii import crc_hqx  # CRC-16/XMODEM, as in Redis Cluster
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
REFILL: Final = b"seg:1:refill"
SWEPT: Final = b"seg:1:swept"
COUNTED: Final = b"seg:1:counted"
BUCKET_PREFIX: Final = b"seg:1:m:"
JOBS: Final = b"seg:1:jobs"
CHANGES: Final = b"seg:1:changes"
PUBLICATIONS: Final = b"seg:1:publications"
REPLICA_READS: Final = b"seg:1:replica_reads"
CACHING: Final = b"seg:1:caching"
FRESH: Final = b"seg:1:fresh"
REAPPLIED: Final = b"seg:1:reapplied"

SLOTS: Final = 16384
"""The number of slots in any Redis Cluster."""


def bucket_bits_for(expected_ids: int) -> int:
    """Return the bits of bucket numbers in a store for that many ids."""
    wanted = max(1, expected_ids // PERSONS_PER_BUCKET)
    # Nearest power of two, up from the geometric middle.
    bits = wanted.bit_length() - 1
    if wanted * wanted > 2 << (2 * bits):
        bits += 1
    return min(max(bits, MIN_BUCKET_BITS), MAX_BUCKET_BITS)


def bucket_of(id_: bytes, bucket_bits: int) -> int:
    """Return the number of an id's bucket."""
    # Compiled, four steps; `int.from_bytes` takes a slice and a call.
    return (id_[0] << 24 | id_[1] << 16 | id_[2] << 8 | id_[3]) >> (32 - bucket_bits)


def bucket_key(bucket: int) -> bytes:
    """Return the key of a bucket."""
    return b"seg:1:m:%x" % bucket


def field_of(id_: bytes) -> bytes:
    """Return the field of an id within its bucket."""
    return id_[FIELD_START:FIELD_END]


def id_in_bucket(bucket: int, field: bytes, bucket_bits: int) -> bytes:
    """Return an id with a bucket and field: all that the store keeps of it."""
    return (
        (bucket << (32 - bucket_bits)).to_bytes(FIELD_START) + field + bytes(ID_BYTES - FIELD_END)
    )


def ids_in_finer_buckets(id_: bytes, known_bits: int, bucket_bits: int) -> list[bytes]:
    """
    Return an id for each bucket in which an id of a store with `known_bits` may lie.

    `id_` is from `id_in_bucket`. With no more `bucket_bits`, the result is one id.
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


def rate_key(account_id: int | None) -> bytes:
    """Return the key of an account's requests; `None`: the operator's."""
    return b"seg:1:rate:operator" if account_id is None else b"seg:1:rate:%d" % account_id


def slot_of(key: bytes) -> int:
    """Return a key's slot in a Cluster: the CRC-16 of the key or its hash tag."""
    # https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    start = key.find(b"{") + 1
    if start:
        end = key.find(b"}", start)
        if end > start:
            key = key[start:end]
    return crc_hqx(key, 0) & (SLOTS - 1)


@cache
def tag_of(slot: int) -> bytes:
    """Return a hash tag that puts a key into a slot."""
    n = 0
    while slot_of(b"%d" % n) != slot:
        n += 1
    return b"%d" % n


def fresh_key(slot: int | None = None) -> bytes:
    """Return the key of a server's freshness; `slot`: one of its slots in a Cluster."""
    return FRESH if slot is None else b"%s:{%s}" % (FRESH, tag_of(slot))
