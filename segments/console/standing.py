"""
The opt-outs in the store that keep a person's segments from bids, at this moment.

The bid path reads the same records, so these opt-outs are in force for bids that begin now.
Memberships are not returned.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from segments.doors.privacy.report import record_of
from segments.model.account import Account, AccountTree
from segments.model.identity import Id
from segments.model.record import EVERYONE, Record
from segments.store.reader import StoreUnusable, read_meta


class Standing(NamedTuple):
    """The segments of one id that no bid shows."""

    is_read: bool  # false: its record can't be read, and no bid shows anything
    is_nothing_shown: bool
    hidden: Sequence[Account] = ()  # whose segments no bid shows, if some are shown


async def standings(
    redis: Redis, ids: Sequence[Id], tree: AccountTree, visible: Collection[int] | None
) -> list[Standing] | None:
    """
    Return the standing of each id; `None`: the store is away.

    `ids`: some hundreds at most; `visible`: accounts whose opt-outs are told; `None`: all, global
    ones too.
    """
    try:
        meta = await read_meta(redis)
        return [_standing(await record_of(redis, meta, id_), tree, visible) for id_ in ids]
    except (RedisError, StoreUnusable, OSError):
        return None


def _standing(
    record: Record | None, tree: AccountTree, visible: Collection[int] | None
) -> Standing:
    if record is None:
        return Standing(is_read=False, is_nothing_shown=True)
    by = {each.account_id for each in record.opt_outs}
    if visible is not None:
        by &= set(visible)
    if EVERYONE in by:
        return Standing(is_read=True, is_nothing_shown=True)
    hidden = {owner for account_id in by for owner in tree.erased_by(account_id)}
    names = sorted((tree.account(owner) for owner in hidden), key=lambda each: each.name)
    return Standing(is_read=True, is_nothing_shown=False, hidden=names)
