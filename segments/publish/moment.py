"""A consistent view of ledger and store, by the order of the reads."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import reading
from segments.ledger.privacy import opt_outs
from segments.ledger.revision import revision
from segments.model.record import EVERYONE, OptOut
from segments.projection.applied_opt_outs import placed, reach_of
from segments.projection.one_ledger import own_meta
from segments.publish.buckets import Missing, MissingOptOuts
from segments.store import keys
from segments.store.published.form import PublishedOptOut
from segments.store.reader import CAME_BACK_EMPTY, Meta, StoreUnusable

_PAGE: Final = 1000


class Now(NamedTuple):
    """Ledger and store as of one moment."""

    at_s: float
    """Unix time; everything below was read after it."""
    meta: Meta
    opt_outs: int
    """The ledger's last number."""
    new: Sequence[PublishedOptOut]
    """Opt-outs that are not published yet."""
    missing: MissingOptOuts
    """Opt-outs that the store may lack, by its number and the ledger's marks."""
    revision: int


async def look(ledger: AsyncEngine, redis: Redis, at_s: float, published: int | None) -> Now:
    """
    Read the store's state, then the ledger's; `published` is the last published opt-out, if any.

    Raises:
        StoreUnusable: The store must not be published.
        redis.exceptions.RedisError: The store can't be reached.
        segments.ledger.database.errors.LedgerAway: The ledger can't be reached.
    """
    meta = await own_meta(ledger, redis)
    if meta.is_unfilled:
        raise StoreUnusable(f"the store {CAME_BACK_EMPTY}")
    async with reading(ledger) as conn:
        last = await opt_outs.last_seq(conn)
        version = await revision(conn)
    bits = meta.bucket_bits
    published = meta.opt_outs if published is None else published
    new: list[PublishedOptOut] = []
    missing: dict[int, dict[bytes, list[Missing]]] = {}
    after_seq = 0
    while True:
        async with reading(ledger) as conn:
            page = await opt_outs.unapplied(
                conn, min(published, meta.opt_outs), after_seq=after_seq, limit=_PAGE
            )
            page = [request for request in page if request.seq <= last]
            reach = await reach_of(conn, page)
        if not page:
            break
        after_seq = page[-1].seq
        for request in placed(page, bits):
            opt_out = OptOut(
                EVERYONE if request.account_id is None else request.account_id, request.action
            )
            erased = None if request.account_id is None else reach.get(request.account_id)
            for id_ in request.ids:
                bucket, field = keys.bucket_of(id_, bits), keys.field_of(id_)
                missing.setdefault(bucket, {}).setdefault(field, []).append(
                    Missing(opt_out, erased)
                )
                if request.seq > published:
                    new.append(
                        PublishedOptOut(
                            request.seq, opt_out.action, opt_out.account_id, bucket, field
                        )
                    )
    return Now(at_s, meta, last, new, missing, version)
