"""
Reads from the store, after checking that it may be read.

The bid path checks `Meta` first. `rtb.lookup.lookup` looks up records; `read_records` is for tools
and tests.

A store without meta, or with another layout, must not be read: finding no opt-outs would pass for
consent.
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
    # The bid path's pure half imports this module.
    from redis.asyncio import Redis


class StoreUnusable(Exception):
    """The store can't be used as it is; the message has the cure."""


class StoreRefuses(StoreUnusable):
    """The store refuses to write for now; reads may go on."""


class LedgerBehind(StoreUnusable):
    """The ledger is older than the numbers that the store was told."""

    def __init__(self, behind: str) -> None:
        super().__init__(
            f"the ledger is behind its store ({behind}), as after the restore of a backup: run"
            " `rtb-segments reconcile`"
        )


class Whose(NamedTuple):
    """The owner of a store, and the highest numbers that the store was ever told."""

    ledger_id: str = ""
    """Empty: no owner yet."""
    last_audience: int = 0
    """Of an audience."""
    last_opt_out: int = 0
    """Of an opt-out, applied or not."""
    last_opt_out_of: str = ""
    """That opt-out's transaction id, if told; a ledger with another id there is behind."""
    last_revision: int = 0
    """Of a catalog, published or not; 0: none."""
    last_revision_name: str = ""
    """That revision's name, if told: see `segments.ledger.revision`."""
    behind: str = ""
    """By how much, if the ledger is behind these numbers: for people."""
    is_of_empty_ledger: bool = False
    """Whether the owner took the store empty: a ledger with content may take over."""


class Meta(NamedTuple):
    """A store's layout, the opt-outs that it has, and its owner."""

    bucket_bits: int
    opt_outs: int
    """The ledger's number of the last applied opt-out."""
    whose: Whose = Whose()
    is_unfilled: bool = False
    """Nothing was restored since the layout; the ledger may have deliveries."""


META_COMMAND: tuple[bytes, ...] = (
    *(b"HMGET", keys.META, b"layout", b"bucket_bits", b"opt_outs"),
    *(b"ledger", b"last_audience", b"last_opt_out", b"last_opt_out_of"),
    *(b"last_revision", b"last_revision_name", b"behind", b"of_empty_ledger", b"unfilled"),
)
"""Its reply is for `parse_meta`."""

OPT_OUTS = 2
"""Index of the number of opt-outs in that reply."""

_NEEDED = 3
"""The first fields, present in every store."""

_READS = 20

CAUGHT_UP = b"caught_up"

RUN_COMMAND: tuple[bytes, ...] = (b"INFO", b"server", b"replication")
"""Its reply is for `parse_run`."""

TRUST_COMMAND: tuple[bytes, ...] = (*META_COMMAND, CAUGHT_UP)
"""Its reply is for `parse_trusted`."""

RECORD_COMMAND: tuple[bytes, ...] = (b"HGET", keys.bucket_key(0), b"\0" * keys.FIELD_BYTES)
"""A bid's lookup, of no real person, to test permissions."""


def parse_meta(reply: Sequence[bytes | None]) -> Meta:
    """
    Parse the reply to `META_COMMAND`.

    Raises:
        StoreUnusable: The store has no meta, or an unknown layout.
    """
    needed = reply[:_NEEDED]
    if any(value is None for value in needed):
        raise StoreUnusable(
            "the store has no seg:1:meta: it is empty or not ours; start the loader, which"
            " prepares it and brings the ledger's opt-outs into it"
        )
    try:
        layout, bucket_bits, opt_outs = (int(value) for value in needed if value is not None)
        whose = _whose(reply[_NEEDED:-1])
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
    return Meta(bucket_bits, opt_outs, whose, is_unfilled=reply[-1] is not None)


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
    Parse the name of a master's run from the reply to `RUN_COMMAND`.

    Raises:
        StoreUnusable: The server is a replica, or does not name its run.
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
    Parse the reply to `TRUST_COMMAND` of a server, in its `run`, that is to answer bids.

    Raises:
        LedgerBehind: Its further writes can't be trusted.
        StoreUnusable: As `parse_meta`; or opt-outs from while the server was down may be missing.
    """
    meta = believed_meta(reply)
    if run not in caught_up_runs(reply):
        raise StoreUnusable(NOT_CAUGHT_UP)
    return meta


def believed_meta(reply: Sequence[bytes | None]) -> Meta:
    """
    Parse the reply to `TRUST_COMMAND`, whichever runs are caught up.

    Raises:
        LedgerBehind, StoreUnusable: As `read_meta`.
    """
    meta = parse_meta(reply[:-1])
    if meta.whose.behind:
        raise LedgerBehind(meta.whose.behind)
    return meta


def caught_up_runs(reply: Sequence[bytes | None]) -> list[bytes]:
    """Return the caught-up runs from the reply to `TRUST_COMMAND`."""
    return (reply[-1] or b"").split()


CAME_BACK_EMPTY = (
    "came back empty, whole or in part: opt-outs are in force, and memberships of delivered files"
    " are gone;"
    " run `rtb-segments rebuild`, or set SEGMENTS_REBUILD_WHEN_EMPTY and a loader does it"
)

NOT_CAUGHT_UP = (
    "the store's server was started anew, or took another's place, and may lack opt-outs: start"
    " the loader, which brings them into it"
)


async def read_meta(redis: "Redis") -> Meta:
    """
    Read the store's meta.

    Raises:
        LedgerBehind: The store is marked so.
        StoreUnusable: As `parse_meta`.
    """
    meta = await read_meta_of_any(redis)
    if meta.whose.behind:
        raise LedgerBehind(meta.whose.behind)
    return meta


async def read_meta_of_any(redis: "Redis") -> Meta:
    """
    Read the store's meta even if its ledger is behind.

    Raises:
        StoreUnusable: As `parse_meta`.
    """
    reply = await redis.execute_command(*META_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    return parse_meta(reply)


async def read_whose(redis: "Redis") -> Whose:
    """
    Read the store's owner, even if the store is closed or its ledger is behind.

    Raises:
        StoreUnusable: The numbers are malformed.
    """
    reply = await redis.execute_command(*META_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    try:
        return _whose(reply[_NEEDED:-1])
    except ValueError:
        raise StoreUnusable("seg:1:meta is unreadable; rebuild the store") from None


async def read_version(redis: "Redis") -> int:
    """Return the version of the catalog in the store; 0 if there is none."""
    return int(await redis.get(keys.VERSION) or 0)


async def read_catalog(redis: "Redis") -> CatalogSnapshot:
    """
    Read the catalog and its version consistently.

    Both are written atomically (`segments.projection.catalog`), so a read between two of the same
    version belongs to that version.

    Raises:
        StoreUnusable: An entry is malformed, or the catalog keeps changing.
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
    Read the record of each id; `NOTHING` for unknown ids.

    Raises:
        CorruptRecord: Names the bucket, never the id.
    """
    buckets = [keys.bucket_of(id_, meta.bucket_bits) for id_ in ids]
    values = await read_packed(redis, meta, ids)
    return [_unpacked(*pair) for pair in zip(buckets, values, strict=True)]


async def read_packed(redis: "Redis", meta: Meta, ids: Sequence[Id]) -> list[bytes | None]:
    """Read the record of each id as the store has it; `None` for unknown ids."""
    async with redis.pipeline(transaction=False) as pipeline:
        for id_ in ids:
            bucket = keys.bucket_of(id_, meta.bucket_bits)
            # The typed method takes no bytes as a field.
            pipeline.execute_command("HGET", keys.bucket_key(bucket), keys.field_of(id_))
        values: list[bytes | None] = await pipeline.execute()
    return values


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
