"""Checks the store: its ledger, settings, durability and lag."""

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import reading
from segments.ledger.expected import ExpectedMemberships
from segments.ledger.privacy import opt_outs
from segments.ledger.revision import revision
from segments.model.record import day_of
from segments.projection.one_ledger import behind
from segments.store import keys
from segments.store.embedded import directory_in
from segments.store.error_code import node_of, refusal_of, why_refused
from segments.store.meta import LISTPACK_LIMITS
from segments.store.reader import (
    CAME_BACK_EMPTY,
    LedgerBehind,
    Meta,
    StoreUnusable,
    read_meta,
    read_version,
    read_whose,
)
from segments.store.sample import sample
from segments.store.servers.connection import connect
from segments.store.servers.masters import REDIRECTS, Server, masters, parse_info
from segments.upkeep.doctor.findings import Deployment, Finding, Grade, settled
from segments.upkeep.doctor.publications import look_at_publications
from segments.upkeep.doctor.rights import look_at_rights

_FULLEST_BUCKET = 300
"""Persons in a bucket, above which writes copy too much."""

_SAMPLED_BUCKETS = 200

_MISSING_SHARE = 0.5
"""Of expected memberships: erasures alone rarely explain a larger gap."""

_ERRORS = 5
"""Standard errors of a sample that chance does not explain."""

_BY_LOADER = "start the loader, or see in its log why it does not do that"


async def look_at_store(deployment: Deployment, ledger: AsyncEngine) -> AsyncIterator[Finding]:
    """Yield the findings, in the order in which to mend them."""
    async with connect(deployment.store_url, retry=None) as redis:
        try:
            whose, shown = await read_whose(redis), await _shown(redis)
            async with reading(ledger) as conn:
                by_so_much = await behind(conn, whose, shown)
            if by_so_much:
                raise LedgerBehind(by_so_much)
            meta = await read_meta(redis)
        except StoreUnusable as error:
            yield Finding(Grade.BAD, f"store: {error}")
            return
        except (RedisError, OSError) as error:
            yield Finding(Grade.BAD, f"store: {_why_silent(error, deployment)}")
            return
        yield Finding(Grade.GOOD, f"store: answers, laid out with {meta.bucket_bits} bucket bits")
        if meta.is_unfilled:
            yield await settled(lambda: _filled(redis))
        if not meta.whose.ledger_id:
            yield Finding(Grade.BAD, f"store: belongs to no ledger yet; {_BY_LOADER}")
        try:
            servers = await masters(redis)
            yield await look_at_rights(redis)
            yield await _writing(servers)
            yield await _limits(servers)
            yield await _durability(servers)
            yield await _crowding(redis, meta, deployment.expected_ids)
            yield await _holding(redis, meta, ledger)
        except (RedisError, OSError) as error:
            refusal = refusal_of(error)
            why = f"({type(error).__name__})" if refusal is None else refusal.with_cure
            which = f"{node_of(error)} " if node_of(error) else ""
            yield Finding(Grade.BAD, f"store: not all nodes answer: {which}{why}")
        yield await _waiting_opt_outs(ledger)
        yield await _known_opt_outs(ledger, redis)
        yield await _catalog(ledger, redis)
        with suppress(RedisError, OSError):  # another finding
            async for finding in look_at_publications(redis, time.time()):
                yield finding


def _why_silent(error: Exception, deployment: Deployment | None = None) -> str:
    refusal = refusal_of(error)
    if refusal is not None:
        return f"refuses: {refusal.with_cure}"
    if isinstance(error, RedisTimeoutError):
        return "is connected and does not answer; see its log and what keeps it busy"
    hint = "check SEGMENTS_REDIS_URL and the server"
    if deployment is not None and deployment.embedded_store:
        hint = "start it with `rtb-segments up`"
        if not directory_in(deployment.data_dir).is_dir():
            hint = f"its directory is not there: put it back, or {hint}"
    return f"does not answer ({type(error).__name__}); {hint}"


async def _shown(redis: Redis) -> int:
    """Return the catalog's version; 0 if its node is away, which is another finding."""
    try:
        return await read_version(redis)
    except (RedisError, OSError):
        return 0


async def _filled(redis: Redis) -> Finding:
    """Check whether a new store has been filled from its ledger."""
    try:
        is_unfilled = (await read_meta(redis)).is_unfilled
    except (StoreUnusable, RedisError, OSError):
        is_unfilled = True
    if is_unfilled:
        return Finding(Grade.BAD, f"store: {CAME_BACK_EMPTY}")
    return Finding(Grade.GOOD, "store: is new, and nothing was in it before")


async def _writing(servers: Sequence[Server]) -> Finding:
    """Check for refused writes, by a write that needs memory and changes nothing."""
    for server in servers:
        error = await _refusal_to_write(server)
        if error is not None:
            which = f"{node_of(error)} " if node_of(error) else ""
            return Finding(Grade.BAD, f"store: {which}refuses to write: {why_refused(error)}")
    return Finding(Grade.GOOD, "store: takes writes")


async def _refusal_to_write(server: Server) -> ResponseError | None:
    """Write to a slot that is not moving, and return the error, if any."""
    for slot in (slot for limits in server.slots for slot in limits):
        key = keys.fresh_key(None if server.node is None else slot)
        try:
            await server.execute(b"SETRANGE", key, 0, b"")
        except REDIRECTS:
            continue
        except ResponseError as error:
            return error
        return None
    return None


async def _limits(servers: Sequence[Server]) -> Finding:
    low: set[str] = set()
    for server in servers:
        for name, value in LISTPACK_LIMITS.items():
            try:
                _, held = await server.execute(b"CONFIG", b"GET", name)
            except ResponseError:
                return Finding(
                    Grade.POOR, "store: CONFIG is forbidden; the loader checks by trying"
                )
            if int(held or 0) < value:
                low.add(f"{name} {value}")
    if low:
        wanted = ", ".join(sorted(low))
        return Finding(Grade.BAD, f"store: persons cost too much memory; set {wanted}")
    return Finding(Grade.GOOD, "store: buckets are packed")


async def _durability(servers: Sequence[Server]) -> Finding:
    for server in servers:
        persistence = parse_info(await server.execute(b"INFO", b"persistence"))
        if persistence.get("aof_enabled") != "1":
            return Finding(
                Grade.POOR,
                "store: no append-only file; after a restart the ledger brings the opt-outs again,"
                " memberships must be loaded again (set appendonly yes)",
            )
    return Finding(
        Grade.GOOD,
        "store: keeps an append-only file; what a power cut takes of it the loader writes again",
    )


async def _crowding(redis: Redis, meta: Meta, expected_ids: int) -> Finding:
    sizes = []
    for n in range(_SAMPLED_BUCKETS):
        bucket = n * (1 << meta.bucket_bits) // _SAMPLED_BUCKETS
        sizes.append(await redis.hlen(keys.bucket_key(bucket)))
    mean = sum(sizes) / len(sizes)
    holds = f"store: about {round(mean * (1 << meta.bucket_bits)):,} ids, {mean:.0f} to a bucket"
    if mean > _FULLEST_BUCKET:
        bits = keys.bucket_bits_for(expected_ids)
        return Finding(
            Grade.POOR,
            f"{holds}, which is many: set SEGMENTS_EXPECTED_IDS (now good for {bits} bucket bits)"
            " and load into a new store",
        )
    return Finding(Grade.GOOD, holds)


async def _holding(redis: Redis, meta: Meta, ledger: AsyncEngine) -> Finding:
    now_s = time.time()
    expected = await ExpectedMemberships(ledger).look(now_s)
    held = await sample(redis, meta, day_of(now_s), random.Random())  # noqa: S311 - a sample
    said = (
        f"store: about {round(held.memberships):,} memberships (give or take"
        f" {round(2 * held.error):,}), by the ledger {round(expected):,}"
    )
    if held.lost:
        return Finding(Grade.BAD, f"{said}: {len(held.lost)} of its servers {CAME_BACK_EMPTY}")
    missing = expected - held.memberships
    if missing > expected * _MISSING_SHARE and missing > _ERRORS * held.error:
        return Finding(
            Grade.POOR,
            f"{said}; more were erased than are left, or the store is an older copy: then run"
            " `rtb-segments rebuild`",
        )
    return Finding(Grade.GOOD, said)


async def _waiting_opt_outs(ledger: AsyncEngine) -> Finding:
    async with reading(ledger) as conn:
        waiting = await opt_outs.waiting(conn, time.time())
    if waiting.requests:
        return Finding(
            Grade.BAD,
            f"opt-outs: {waiting.requests} are recorded and not in force, the oldest for"
            f" {waiting.oldest_s:.0f} s; {_BY_LOADER}, and that the store can be written",
        )
    return Finding(Grade.GOOD, "opt-outs: none waits to be in force")


async def _known_opt_outs(ledger: AsyncEngine, redis: Redis) -> Finding:
    async with reading(ledger) as conn:
        wanted = await opt_outs.last_seq(conn)

    async def look() -> Finding:
        try:
            known = (await read_meta(redis)).opt_outs
        except StoreUnusable as error:
            return Finding(Grade.BAD, f"opt-outs: {error}")
        except (RedisError, OSError) as error:
            return Finding(Grade.BAD, f"opt-outs: {_why_silent(error)}")
        if known < wanted:
            why = f"the store knows them up to {known}, the ledger has {wanted}"
            return Finding(Grade.BAD, f"opt-outs: {why}; {_BY_LOADER}")
        return Finding(Grade.GOOD, "opt-outs: the store knows all of the ledger's")

    return await settled(look)


async def _catalog(ledger: AsyncEngine, redis: Redis) -> Finding:
    async with reading(ledger) as conn:
        wanted = await revision(conn)

    async def look() -> Finding:
        try:
            shown = await read_version(redis)
        except (RedisError, OSError) as error:
            return Finding(Grade.BAD, f"catalog: its node does not answer ({type(error).__name__})")
        if shown < wanted:
            why = f"the store shows {shown}, the ledger {wanted}"
            return Finding(Grade.BAD, f"catalog: {why}; {_BY_LOADER}")
        return Finding(Grade.GOOD, f"catalog: version {shown} is published")

    return await settled(look)
