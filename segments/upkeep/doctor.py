"""
Looks at everything the service stands on, and says what to do about what is wrong.

Each check is one question with one finding; none changes anything. A check
whose ground is missing (no store, say) is left out, for the one finding that
matters is the one above it.
"""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, audiences, jobs
from segments.ledger.database.engine import LedgerUnusable, existing_ledger, reading
from segments.ledger.ledger_id import standing
from segments.ledger.privacy import opt_outs
from segments.ledger.revision import revision
from segments.projection.one_ledger import behind
from segments.store import keys
from segments.store.meta import LISTPACK_LIMITS
from segments.store.reader import (
    LedgerBehind,
    Meta,
    StoreUnusable,
    read_meta,
    read_version,
    read_whose,
)
from segments.store.servers.connection import connect
from segments.store.servers.masters import Server, masters, parse_info

_FULLEST_BUCKET = 300
"""Persons in a bucket above which every write copies more than it should."""

_SAMPLED_BUCKETS = 200
_NAMED = 10


class Grade(StrEnum):
    """How much it matters."""

    GOOD = "ok"
    POOR = "warn"  # works, and could work better
    BAD = "FAIL"  # bids pass through, or something would be lost


class Finding(NamedTuple):
    """What one look showed, and what to do about it."""

    grade: Grade
    what: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is examined; its URLs may hold passwords."""

    ledger_url: str = field(repr=False)
    store_url: str = field(repr=False)
    embedded_store: bool
    expected_ids: int
    """How many persons a new store is laid out for."""


async def examine(deployment: Deployment) -> AsyncIterator[Finding]:
    """Yield what was found, in the order in which it should be mended."""
    try:
        async with existing_ledger(deployment.ledger_url) as ledger:
            async with reading(ledger) as conn:
                ledger_id = (await standing(conn)).ledger_id
            yield Finding(Grade.GOOD, f"ledger: {ledger_id} opens, its tables are up to date")
            yield await _shared_ids(ledger)
            yield await _held(ledger)
            async for finding in _store(deployment, ledger):
                yield finding
    except LedgerUnusable as error:
        yield Finding(Grade.BAD, str(error))


async def _store(deployment: Deployment, ledger: AsyncEngine) -> AsyncIterator[Finding]:
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
            hint = (
                "start it with `rtb-segments up`"
                if deployment.embedded_store
                else "check SEGMENTS_REDIS_URL and the server"
            )
            yield Finding(Grade.BAD, f"store: does not answer ({type(error).__name__}); {hint}")
            return
        yield Finding(Grade.GOOD, f"store: answers, laid out with {meta.bucket_bits} bucket bits")
        if not meta.whose.ledger_id:
            yield Finding(Grade.BAD, "store: belongs to no ledger yet; start the loader")
        try:
            servers = await masters(redis)
            yield await _limits(servers)
            yield await _durability(servers)
            yield await _crowding(redis, meta, deployment.expected_ids)
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            yield Finding(Grade.BAD, f"store: not all nodes answer ({type(error).__name__})")
        yield await _known_opt_outs(ledger, meta)
        yield await _catalog(ledger, redis)


async def _shown(redis: Redis) -> int:
    """Return the catalog's version; 0 where its node is away, as another finding says."""
    try:
        return await read_version(redis)
    except (RedisError, OSError):
        return 0


async def _shared_ids(ledger: AsyncEngine) -> Finding:
    """Look for ids that were given before `FIRST_GIVEN_ID`, and that a partner uses as its own."""
    async with reading(ledger) as conn:
        shared = await audiences.shared_ids(conn)
    if not shared:
        return Finding(Grade.GOOD, "segment ids: none is both given and a partner's own")
    named = ", ".join(f"{partner_id} {segment_id}" for partner_id, segment_id in shared[:_NAMED])
    more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
    return Finding(
        Grade.POOR,
        "segment ids: given by us and used by the partner as its own, so both are one audience:"
        f" {named}{more}; let the partner use another id for its segment",
    )


async def _held(ledger: AsyncEngine) -> Finding:
    """Look for jobs that wait for a person, and what waits behind them."""
    said = []
    async with reading(ledger) as conn:
        waiting = await jobs.held(conn)
        for job in waiting[:_NAMED]:
            partner = await accounts.account(conn, job.partner_id)
            behind = await jobs.count_behind(conn, job)
            said.append(f"job {job.id} of {partner.public_id} ({behind} wait behind it)")
    if not waiting:
        return Finding(Grade.GOOD, "jobs: none is held")
    more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
    return Finding(
        Grade.POOR,
        f"jobs: held until somebody looks: {', '.join(said)}{more}; see `rtb-segments status JOB`,"
        " then `rtb-segments release JOB`, or `release --refuse JOB`",
    )


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


async def _known_opt_outs(ledger: AsyncEngine, meta: Meta) -> Finding:
    async with reading(ledger) as conn:
        unapplied = await opt_outs.unapplied(conn, meta.opt_outs, after_seq=0, limit=1)
        waiting = await opt_outs.waiting(conn, time.time())
    if waiting.requests:
        return Finding(
            Grade.BAD,
            f"opt-outs: {waiting.requests} are recorded and not in force, the oldest for"
            f" {waiting.oldest_s:.0f} s; start the loader, and see that the store can be written",
        )
    if unapplied:
        return Finding(Grade.BAD, "opt-outs: some wait for the store; start the loader")
    return Finding(Grade.GOOD, "opt-outs: the store knows all of the ledger's")


async def _catalog(ledger: AsyncEngine, redis: Redis) -> Finding:
    async with reading(ledger) as conn:
        wanted = await revision(conn)
    try:
        shown = await read_version(redis)
    except (RedisError, OSError) as error:
        return Finding(Grade.BAD, f"catalog: its node does not answer ({type(error).__name__})")
    if wanted != shown:
        return Finding(
            Grade.BAD, f"catalog: the store shows {shown}, the ledger {wanted}; start the loader"
        )
    return Finding(Grade.GOOD, f"catalog: version {shown} is published")
