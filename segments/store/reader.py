"""
What is read from the store, and what makes a store readable at all.

The bid path enters here: it checks the store's `Meta` before it believes a
word of it, and it takes the catalog as one snapshot, never half of an old and
half of a new one. The lookup of records itself belongs to `rtb.lookup.lookup`, which
asks for many requests at once; `read_records` is for tools and tests.

A store that lacks its meta, or has another layout, is nobody's: reading on
would find no opt-outs and take that for a yes.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from segments.model import record
from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot, RecipientEntry
from segments.model.identity import Id
from segments.model.record import Record
from segments.store import keys

if TYPE_CHECKING:
    # The pure half of the bid path imports this module, and is kept free of I/O.
    from redis.asyncio import Redis


class StoreUnusable(Exception):
    """The store can't be used as it is; the message tells the operator what to do."""


class LedgerBehind(StoreUnusable):
    """A ledger that is older than what the store was told has been started beside it."""

    def __init__(self, behind: str) -> None:
        super().__init__(
            f"the ledger is behind its store ({behind}), as after the restore of a backup: run"
            " `rtb-segments reconcile`"
        )


class Whose(NamedTuple):
    """Whose a store is, and how far its ledger had come by all that it was ever told."""

    ledger_id: str = ""
    """Of the ledger that it belongs to; empty: of none yet."""
    last_audience: int = 0
    """The highest number of an audience that it was told."""
    last_opt_out: int = 0
    """Likewise of an opt-out, applied or not."""
    last_opt_out_of: str = ""
    """The transaction id of that opt-out, if it was told: another of its number is no copy's."""
    last_revision: int = 0
    """Likewise of a catalog, published or not; 0: it was told of none."""
    last_revision_name: str = ""
    """The name of that revision, if it was told: see `segments.ledger.revision`."""
    behind: str = ""
    """By how much the ledger is behind these, if it was found so: for people."""
    is_of_empty_ledger: bool = False
    """Whether its ledger held nothing when it took the store: one that does may take it over."""


class Meta(NamedTuple):
    """How a store is laid out, how much of the ledger's opt-outs it knows, and whose it is."""

    bucket_bits: int
    opt_outs: int
    """Sequence number of the ledger's last opt-out that the store has applied."""
    whose: Whose = Whose()


META_COMMAND: tuple[bytes, ...] = (
    *(b"HMGET", keys.META, b"layout", b"bucket_bits", b"opt_outs"),
    *(b"ledger", b"last_audience", b"last_opt_out", b"last_opt_out_of"),
    *(b"last_revision", b"last_revision_name", b"behind", b"of_empty_ledger"),
)
"""The command whose reply `parse_meta` reads."""

OPT_OUTS = 2
"""Where in that reply the store's number of opt-outs stands."""

_NEEDED = 3
"""So many of its fields each store has; the others came with later versions."""

_READS = 20

CAUGHT_UP = b"caught_up"

RUN_COMMAND: tuple[bytes, ...] = (b"INFO", b"server", b"replication")
"""The command whose reply `parse_run` reads."""

TRUST_COMMAND: tuple[bytes, ...] = (*META_COMMAND, CAUGHT_UP)
"""The command whose reply `parse_trusted` reads."""


def parse_meta(reply: Sequence[bytes | None]) -> Meta:
    """
    Read the reply to `META_COMMAND`.

    Raises:
        StoreUnusable: The store has no meta, or one that this software can't use.
    """
    needed = reply[:_NEEDED]
    if any(value is None for value in needed):
        raise StoreUnusable(
            "the store has no seg:1:meta: it is empty or not ours; start the loader, which"
            " prepares it and brings the ledger's opt-outs into it"
        )
    try:
        layout, bucket_bits, opt_outs = (int(value) for value in needed if value is not None)
        whose = _whose(reply[_NEEDED:])
    except ValueError:
        raise StoreUnusable("seg:1:meta is unreadable; rebuild the store") from None
    if layout != keys.LAYOUT:
        raise StoreUnusable(
            f"the store has layout {layout} and this software reads layout {keys.LAYOUT}:"
            " run the version that wrote it, or rebuild the store"
        )
    if not keys.MIN_BUCKET_BITS <= bucket_bits <= keys.MAX_BUCKET_BITS or opt_outs < 0:
        raise StoreUnusable(
            f"seg:1:meta says bucket_bits={bucket_bits}, opt_outs={opt_outs}, which no version"
            " writes; rebuild the store"
        )
    return Meta(bucket_bits, opt_outs, whose)


def _whose(fields: Sequence[bytes | None]) -> Whose:
    ledger_id, last_audience, last_opt_out, last_opt_out_of, *revision, behind, of_empty = fields
    last_revision, last_revision_name = revision
    return Whose(
        (ledger_id or b"").decode(),
        int(last_audience or 0),
        int(last_opt_out or 0),
        (last_opt_out_of or b"").decode(),
        int(last_revision or 0),
        (last_revision_name or b"").decode(),
        (behind or b"").decode(),
        is_of_empty_ledger=of_empty is not None,
    )


def parse_run(reply: bytes) -> bytes:
    """
    Read what a master calls its run from the reply to `RUN_COMMAND`.

    Raises:
        StoreUnusable: It is a replica, or does not say.
    """
    run = re.search(rb"^run_id:(\w+)", reply, re.MULTILINE)
    role = re.search(rb"^role:(\w+)", reply, re.MULTILINE)
    lineage = re.search(rb"^master_replid:(\w+)", reply, re.MULTILINE)
    if run is None or role is None or lineage is None:
        raise StoreUnusable("the store does not say which run of its server this is (INFO)")
    if role[1] != b"master":
        raise StoreUnusable("the store's server is a replica: name its master, or its Sentinels")
    return b"%s:%s" % (run[1], lineage[1])


def parse_trusted(reply: Sequence[bytes | None], run: bytes) -> Meta:
    """
    Read the reply to `TRUST_COMMAND`, of a store that bids are to be answered from.

    Args:
        reply: The reply.
        run: Of the server that gave it.

    Raises:
        LedgerBehind: What is written by the ledger from here on can't be trusted.
        StoreUnusable: As `parse_meta`; or the store may lack opt-outs of the
            time in which its server was down.
    """
    meta = believed_meta(reply)
    if run not in caught_up_runs(reply):
        raise StoreUnusable(NOT_CAUGHT_UP)
    return meta


def believed_meta(reply: Sequence[bytes | None]) -> Meta:
    """
    Read the meta from the reply to `TRUST_COMMAND`, whichever runs are caught up.

    Raises:
        LedgerBehind, StoreUnusable: As `read_meta`.
    """
    meta = parse_meta(reply[:-1])
    if meta.whose.behind:
        raise LedgerBehind(meta.whose.behind)
    return meta


def caught_up_runs(reply: Sequence[bytes | None]) -> list[bytes]:
    """Return the runs that have every opt-out, from the reply to `TRUST_COMMAND`."""
    return (reply[-1] or b"").split()


NOT_CAUGHT_UP = (
    "the store's server was started anew, or took another's place, and may lack opt-outs: start"
    " the loader, which brings them into it"
)


async def read_meta(redis: "Redis") -> Meta:
    """
    Ask the store how it is laid out.

    Raises:
        LedgerBehind: Its ledger was found to be older than the store.
        StoreUnusable: As `parse_meta`.
    """
    meta = await read_meta_of_any(redis)
    if meta.whose.behind:
        raise LedgerBehind(meta.whose.behind)
    return meta


async def read_meta_of_any(redis: "Redis") -> Meta:
    """
    Ask the store how it is laid out, also where its ledger is behind it.

    Raises:
        StoreUnusable: As `parse_meta`.
    """
    reply = await redis.execute_command(*META_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    return parse_meta(reply)


async def read_whose(redis: "Redis") -> Whose:
    """
    Ask the store whose it is: one that is closed, too, or whose ledger is behind it.

    Raises:
        StoreUnusable: Its numbers can't be read.
    """
    reply = await redis.execute_command(*META_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    try:
        return _whose(reply[_NEEDED:])
    except ValueError:
        raise StoreUnusable("seg:1:meta is unreadable; rebuild the store") from None


async def read_version(redis: "Redis") -> int:
    """Return the version of the catalog that the store holds; 0 if none."""
    return int(await redis.get(keys.VERSION) or 0)


async def read_catalog(redis: "Redis") -> CatalogSnapshot:
    """
    Read the catalog and its version, so that they agree.

    It is written at once, version and all (see `segments.projection.catalog`): read between two
    looks that show the same version, it is all of that one.

    Raises:
        StoreUnusable: An entry is not what this software writes, or it changes all the time.
    """
    for _ in range(_READS):
        async with redis.pipeline(transaction=False) as pipeline:
            pipeline.get(keys.VERSION)
            pipeline.hvals(keys.AUDIENCES.decode())
            pipeline.hvals(keys.ACCOUNTS.decode())
            pipeline.hvals(keys.RECIPIENTS.decode())
            pipeline.get(keys.VERSION)
            before, audiences, accounts, recipients, version = await pipeline.execute()
        if before == version:
            return CatalogSnapshot(
                int(version or 0),
                _decoded(audiences, _AUDIENCE, keys.AUDIENCES),
                _decoded(accounts, _ACCOUNT, keys.ACCOUNTS),
                _decoded(recipients, _RECIPIENT, keys.RECIPIENTS),
            )
    raise StoreUnusable("the catalog changes faster than it can be read")


async def read_records(redis: "Redis", meta: Meta, ids: Sequence[Id]) -> list[Record]:
    """
    Read what the store holds of each id; `NOTHING` of those it does not know.

    Raises:
        CorruptRecord: Names the bucket, never the id.
    """
    buckets = [keys.bucket_of(id_, meta.bucket_bits) for id_ in ids]
    async with redis.pipeline(transaction=False) as pipeline:
        for id_, bucket in zip(ids, buckets, strict=True):
            # The command itself, for the typed method takes no bytes as a field.
            pipeline.execute_command("HGET", keys.bucket_key(bucket), keys.field_of(id_))
        values = await pipeline.execute()
    return [_unpacked(*pair) for pair in zip(buckets, values, strict=True)]


_Entry = TypeVar("_Entry", bound=msgspec.Struct)

_AUDIENCE = msgspec.json.Decoder(AudienceEntry)
_ACCOUNT = msgspec.json.Decoder(AccountEntry)
_RECIPIENT = msgspec.json.Decoder(RecipientEntry)


def _decoded(
    values: Sequence[bytes], decoder: msgspec.json.Decoder[_Entry], key: bytes
) -> tuple[_Entry, ...]:
    try:
        return tuple(decoder.decode(value) for value in values)
    except msgspec.DecodeError as error:
        raise StoreUnusable(
            f"{key.decode()} holds an entry that can't be read ({error}); publish the catalog anew"
        ) from None


def _unpacked(bucket: int, value: bytes | None) -> Record:
    if value is None:
        return record.NOTHING
    try:
        return record.unpack(value)
    except record.CorruptRecord as error:
        raise type(error)(f"bucket {bucket:x} of the store: {error}") from None
