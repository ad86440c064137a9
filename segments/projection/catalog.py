"""
Brings the store up to the ledger: first the opt-outs, then the catalog.

Bids read the catalog as JSON from three hashes of the store, written atomically with their version,
the ledger's revision. Any process that finds the version outdated publishes: there is no list of
changes to lose, and thousands of audiences take milliseconds.
"""

from collections.abc import Collection, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts, activations, audiences, jobs, recipient_tokens, recipients
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
from segments.store.catalog_writer import write_catalog
from segments.store.freshness import raise_notes
from segments.store.meta import is_laid_out, mark_caught_up, mark_filled, prepare, tell
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
    Bring the store up to the ledger in everything except memberships.

    Called every second; costs a few round trips when nothing has changed. A new store is laid out
    for `expected_ids` persons.

    Returns:
        The store's meta, for the next writer.

    Raises:
        StoreUnusable: Our ledger may not write to the store.
    """
    if not await is_laid_out(redis):
        await prepare(redis, expected_ids)
    meta = await taken_meta(ledger, redis)
    # First: later writes must not reach persons before their opt-outs.
    servers = await _apply_opt_outs(ledger, redis, meta)
    if meta.is_unfilled:
        meta = meta._replace(is_unfilled=await _lacks_files(ledger, redis))
    try:
        await raise_notes(servers)
    finally:
        await _publish(ledger, redis)
    return meta


async def _lacks_files(ledger: AsyncEngine, redis: Redis) -> bool:
    """Tell whether the ledger has files from before the store's layout."""
    async with reading(ledger) as conn:
        if await jobs.any_carried(conn):
            return True
    await mark_filled(redis)
    return False


async def publish_catalog(ledger: AsyncEngine, redis: Redis) -> int:
    """
    Publish the catalog, unless the store shows it already; return the store's version.

    Raises:
        StoreUnusable: Our ledger may not write to the store, or the store is not laid out yet.
    """
    return await _publish(ledger, redis)


async def _apply_opt_outs(ledger: AsyncEngine, redis: Redis, meta: Meta) -> Collection[Server]:
    """
    Apply the opt-outs, and note the servers' runs that have them; return these servers.
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
    # Lower than the ledger's: held back by an unreadable record, maybe for good; or by an emptied
    # store, until the next call.
    at_least = until_seq if int(opt_outs or 0) >= until_seq else meta.opt_outs
    if at_least or not until_seq:
        await mark_caught_up(redis, found.run_to_server, at_least)
    return servers


async def _catch_up_nodes(ledger: AsyncEngine, redis: Redis, meta: Meta, found: Runs) -> None:
    """
    Bring all opt-outs into the nodes of a Cluster that may lack any.

    The store's number, on a single node, can't tell which. So a new run gets all opt-outs of its
    slots.
    """
    reply = await redis.execute_command(*TRUST_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    known = set(caught_up_runs(reply))
    new = [server for run, server in found.run_to_server.items() if run not in known]
    slots = [each for server in new for each in server.slots]
    if slots:
        await reapply_opt_outs(ledger, redis, meta, slots)
    # A silent node stays known; a replaced node does not.
    now_known = set(found.run_to_server) | (set() if found.is_complete else known)
    if now_known != known:
        await mark_caught_up(redis, now_known, 0)


async def _note_of_each(ledger: AsyncEngine, redis: Redis, meta: Meta, found: Runs) -> None:
    """Raise freshness on known nodes that lack no opt-out, if others are away or refuse writes."""
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
            snapshot = None if by_so_much or version == shown else await snapshot_of(conn, version)
            to_tell = await to_be_told(conn)
        await note_behind(redis, by_so_much, meta.whose)
        if snapshot is None:
            return version
        await tell(redis, meta, to_tell)
        # A catalog published meanwhile is at least as new.
        if await write_catalog(redis, shown, snapshot):
            await redis.publish(keys.CHANGED.decode(), str(version))
            return version


async def snapshot_of(conn: AsyncConnection, version: int) -> CatalogSnapshot:
    """Return the catalog as bids see it; `version` is the ledger's revision."""
    publisher_to_related: dict[int, list[int]] = {}
    for publisher_id, advertiser_id in await accounts.relations(conn):
        publisher_to_related.setdefault(publisher_id, []).append(advertiser_id)
    recipient_to_activations: dict[int, list[Activation]] = {}
    for activation in await activations.activations(conn):
        recipient_to_activations.setdefault(activation.recipient_id, []).append(activation)
    recipient_to_digests = await recipient_tokens.good_digests(conn)
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
            _recipient_entry(
                recipient,
                recipient_to_activations.get(recipient.id, ()),
                recipient_to_digests.get(recipient.id, ()),
            )
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


def _recipient_entry(
    recipient: Recipient, activated: Sequence[Activation], digests: Collection[str]
) -> RecipientEntry:
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
        tokens=tuple(digests) if recipient.needs_token else None,
        certificates=recipient.certificates,
    )
