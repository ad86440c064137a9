"""
Brings the store up to what the ledger says: first the opt-outs, then the catalog.

The bid path never asks the ledger. It sees the catalog as JSON in three hashes
of the store, written whole and at once with their version, which is
the ledger's revision; whoever finds it behind publishes it. There is no list of
changes to replay and so none to lose, and publishing costs a few milliseconds
for thousands of audiences.

Memberships are projected too, but by jobs: see `segments.ingest`.
"""

from collections.abc import Collection, Sequence

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts, activations, audiences, recipients
from segments.ledger.activations import Activation
from segments.ledger.database.engine import reading
from segments.ledger.privacy.opt_outs import last_seq
from segments.ledger.recipients import Recipient
from segments.ledger.revision import revision
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState
from segments.model.catalog import (
    AccountEntry,
    ActivationEntry,
    AudienceEntry,
    CatalogSnapshot,
    RecipientEntry,
)
from segments.projection.applied_opt_outs import (
    apply_by_server,
    apply_opt_outs,
    mark_applied_in,
    reapply_opt_outs,
)
from segments.projection.one_ledger import behind, note_behind, taken_meta, to_be_told
from segments.store import keys
from segments.store.freshness import raise_notes
from segments.store.meta import is_laid_out, mark_caught_up, prepare, tell
from segments.store.reader import (
    OPT_OUTS,
    TRUST_COMMAND,
    Meta,
    StoreUnusable,
    caught_up_runs,
    read_meta_of_any,
    read_version,
)
from segments.store.servers.masters import Runs, Server, is_cluster, runs


async def catch_up(ledger: AsyncEngine, redis: Redis, expected_ids: int) -> Meta:
    """
    Make the store show everything that the ledger says, but for memberships.

    Called every second; costs a few round trips when nothing has changed.

    Args:
        ledger: What is so.
        redis: The store.
        expected_ids: How many persons the store is laid out for, if it is new.

    Returns:
        The store's meta, for whoever writes to it next.

    Raises:
        StoreUnusable: The store is not ours to write.
    """
    if not await is_laid_out(redis):
        await prepare(redis, expected_ids)
    meta = await taken_meta(ledger, redis)
    # Before anything else: what is written after this must not reach a person
    # whose no the store has not heard yet.
    servers = await _apply_opt_outs(ledger, redis, meta)
    try:
        await raise_notes(servers)
    finally:
        await _publish(ledger, redis)
    return meta


async def publish_catalog(ledger: AsyncEngine, redis: Redis) -> int:
    """
    Publish the catalog, unless the store shows the ledger's revision already.

    Returns:
        The version that the store shows now.

    Raises:
        StoreUnusable: The store is not ours to write, or not laid out yet.
    """
    return await _publish(ledger, redis)


async def _apply_opt_outs(ledger: AsyncEngine, redis: Redis, meta: Meta) -> Collection[Server]:
    """
    Bring in the opt-outs, and say that these runs of the store's servers have them.

    Returns:
        The servers of these runs.
    """
    found = await runs(redis)
    servers = found.run_to_server.values()
    if is_cluster(redis):
        try:
            await _catch_up_nodes(ledger, redis, meta, found)
            await apply_opt_outs(ledger, redis, meta)
        except (StoreUnusable, RedisError, OSError):
            await _note_of_each(ledger, redis, meta, found)
            raise
        return servers
    async with reading(ledger) as conn:
        until_seq = await last_seq(conn)
    await apply_opt_outs(ledger, redis, meta)
    reply = await redis.execute_command(*TRUST_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    opt_outs, caught_up = reply[OPT_OUTS], reply[-1]
    if caught_up in found.run_to_server:
        return servers
    # Less than the ledger has: a record that can't be read keeps the number back,
    # maybe for good; or the store was emptied under us, and we shall come again.
    at_least = until_seq if int(opt_outs or 0) >= until_seq else meta.opt_outs
    if at_least or not until_seq:
        await mark_caught_up(redis, found.run_to_server, at_least)
    return servers


async def _catch_up_nodes(ledger: AsyncEngine, redis: Redis, meta: Meta, found: Runs) -> None:
    """
    Bring all opt-outs into the nodes of a Cluster that may lack any.

    The store's number can't say which these are: it lies on one node, and each
    falls back on its own. So a new run gets all there ever were of its slots.
    """
    reply = await redis.execute_command(*TRUST_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    known = set(caught_up_runs(reply))
    new = [server for run, server in found.run_to_server.items() if run not in known]
    slots = [each for server in new for each in server.slots]
    if slots:
        await reapply_opt_outs(ledger, redis, meta, slots)
    # A node that did not answer is not forgotten for that; one whose place was taken is.
    now_known = set(found.run_to_server) | (set() if found.is_complete else known)
    if now_known != known:
        await mark_caught_up(redis, now_known, 0)


async def _note_of_each(ledger: AsyncEngine, redis: Redis, meta: Meta, found: Runs) -> None:
    """
    Let those nodes be asked whose slots lack no opt-out, while others are away or don't write.

    One that is met for the first time is none of them yet.
    """
    reply = await redis.execute_command(*TRUST_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    known = set(caught_up_runs(reply))
    servers = [server for run, server in found.run_to_server.items() if run in known]
    async with reading(ledger) as conn:
        until_seq = await last_seq(conn)
    well, waiting = await apply_by_server(ledger, redis, meta, servers)
    try:
        await raise_notes(well)
    finally:
        await mark_applied_in(ledger, redis, meta, well, waiting, until_seq)


async def _publish(ledger: AsyncEngine, redis: Redis) -> int:
    while True:
        meta = await read_meta_of_any(redis)
        shown = await read_version(redis)
        async with reading(ledger) as conn:
            by_so_much = await behind(conn, meta.whose, shown)
            version = await revision(conn)
            snapshot = None if by_so_much or version == shown else await _snapshot(conn, version)
            to_tell = await to_be_told(conn)
        await note_behind(redis, by_so_much, meta.whose)
        if snapshot is None:
            return version
        await tell(redis, meta, to_tell)
        # Whoever published since we looked saw a ledger at least as new as ours;
        # then ours must not overwrite it.
        if await _write(redis, shown, snapshot):
            await redis.publish(keys.CHANGED.decode(), str(version))
            return version


async def _write(redis: Redis, shown: int, snapshot: CatalogSnapshot) -> bool:
    """Write the catalog, all at once, unless the store shows another version by now."""
    tables: Sequence[Sequence[AudienceEntry | AccountEntry | RecipientEntry]] = (
        snapshot.audiences,
        snapshot.accounts,
        snapshot.recipients,
    )
    names = keys.VERSION, keys.AUDIENCES, keys.ACCOUNTS, keys.RECIPIENTS
    arguments: list[int | bytes] = [shown, snapshot.version]
    for entries in tables:
        arguments.append(len(entries))
        arguments += [item for entry in entries for item in _item(entry)]
    return bool(await redis.eval(_PUBLISH, len(names), *names, *arguments))


# A script, and not a transaction that watches: it works in a Cluster as well.
_PUBLISH = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2])
local at = 3
for table = 2, 4 do
    redis.call('DEL', KEYS[table])
    local last = at + 2 * tonumber(ARGV[at])
    at = at + 1
    while at <= last do
        redis.call('HSET', KEYS[table], unpack(ARGV, at, math.min(at + 999, last)))
        at = math.min(at + 999, last) + 1
    end
end
return 1
"""


def _item(entry: AudienceEntry | AccountEntry | RecipientEntry) -> tuple[int, bytes]:
    return entry.id, msgspec.json.encode(entry)


async def _snapshot(conn: AsyncConnection, version: int) -> CatalogSnapshot:
    publisher_to_related: dict[int, list[int]] = {}
    for publisher_id, advertiser_id in await accounts.relations(conn):
        publisher_to_related.setdefault(publisher_id, []).append(advertiser_id)
    recipient_to_activations: dict[int, list[Activation]] = {}
    for activation in await activations.activations(conn):
        recipient_to_activations.setdefault(activation.recipient_id, []).append(activation)
    return CatalogSnapshot(
        version,
        tuple(
            _audience_entry(audience)
            for audience in await audiences.audiences(conn)
            if audience.state is not AudienceState.DELETED
        ),
        tuple(
            _account_entry(account, publisher_to_related.get(account.id, ()))
            for account in await accounts.accounts(conn)
        ),
        tuple(
            _recipient_entry(recipient, recipient_to_activations.get(recipient.id, ()))
            for recipient in await recipients.recipients(conn)
        ),
    )


def _audience_entry(audience: Audience) -> AudienceEntry:
    return AudienceEntry(
        id=audience.id,
        owner_id=audience.owner_id,
        partner_id=audience.partner_id,
        segment_id=audience.segment_id,
        is_active=audience.state is AudienceState.ACTIVE,
        live_from_s=audience.live_from_s,
        live_until_s=audience.live_until_s,
    )


def _account_entry(account: Account, related_ids: Sequence[int]) -> AccountEntry:
    return AccountEntry(
        id=account.id,
        kind=account.kind.value,
        public_id=account.public_id,
        name=account.name,
        is_active=account.is_active,
        parent_id=account.parent_id,
        related_ids=tuple(related_ids),
        segtax=account.segtax,
    )


def _recipient_entry(recipient: Recipient, activated: Sequence[Activation]) -> RecipientEntry:
    return RecipientEntry(
        id=recipient.id,
        name=recipient.name,
        is_active=recipient.is_active,
        partner_ids=recipient.partner_ids,
        hold_out=recipient.hold_out,
        activations=tuple(
            ActivationEntry(
                activation.audience_id,
                activation.segment_id,
                activation.live_from_s,
                activation.live_until_s,
            )
            for activation in activated
        ),
    )
