"""
Writes opt-outs to the store, without the numpy of the writer of memberships.
"""

from collections.abc import Collection, Sequence

from redis.asyncio import Redis

from segments.model.identity import Id
from segments.model.record import OptOut, OptOutAction, Record, pack
from segments.store import rebuild_claim, scripts
from segments.store.meta import Told, tell
from segments.store.reader import Meta
from segments.store.round_trips import RoundTrips
from segments.store.script_calls import argument_of, calls_of
from segments.store.servers.masters import sure_pipeline


class OptOutWriter:
    """Writes to a store with the layout of `meta`."""

    def __init__(
        self,
        redis: Redis,
        meta: Meta,
        rebuild: str | None = None,
        *,
        is_behind: bool = False,
    ) -> None:
        """
        Args:
            redis: The store.
            meta: As read from the store, or as the rebuild will set it.
            rebuild: The claim of the rebuild that writes.
            is_behind: The ledger is behind the store, and being reconciled.
        """
        self._redis = redis
        self._meta = meta
        self._bucket_bits = meta.bucket_bits
        self._rebuild = rebuild
        self._is_behind = is_behind

    @property
    def bucket_bits(self) -> int:
        """Of the store's layout."""
        return self._bucket_bits

    async def opt_out(
        self,
        ids: Sequence[Id],
        opt_out: OptOut,
        erased_audience_ids: Collection[int] | None = None,
        *,
        number: int = 0,
        transaction_id: str = "",
    ) -> None:
        """
        Record an opt-out of every id, known or not, as `record.opted_out` specifies.

        `number` and `transaction_id` are the request's in the ledger; of several, the highest.

        Raises:
            CorruptRecord, StoreUnusable, redis.exceptions.RedisError: As `merge`.
        """
        # Without header and count bytes.
        packed = pack(Record(opt_outs=(opt_out,)))[2:]
        if opt_out.action is OptOutAction.RESTRICT:
            erased = b"none"
        elif erased_audience_ids is None:
            erased = b"all"
        else:
            erased = argument_of(erased_audience_ids)
        arguments = [b"%d" % opt_out.account_id, b"%d" % opt_out.action, packed, erased]
        if ids:
            await self._check_layout(opt_out=number, opt_out_of=transaction_id)
            calls = calls_of(ids, self._bucket_bits)
            # A demoted master must not be the only server with the opt-out: see
            # `segments.store.servers.cluster_client`.
            pipeline = await sure_pipeline(self._redis)
            await RoundTrips(self._redis, scripts.OPT_OUT, arguments, pipeline).run(calls)

    async def _check_layout(
        self, *, audience_id: int = 0, opt_out: int = 0, opt_out_of: str = ""
    ) -> None:
        # Once for many thousand rows: a new layout must not get rows in old buckets.
        if self._rebuild is not None:
            await rebuild_claim.check(self._redis, self._rebuild)
        elif not self._is_behind:
            await tell(self._redis, self._meta, Told(audience_id, opt_out, opt_out_of))
