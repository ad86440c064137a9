"""
The lookup on one server, with a near cache before it.

`rtb.lookup.near_cache.cache` decides which answers need no store. A cache exists once the store
pushes changes on this link (CLIENT TRACKING), and has registered this worker, so that writers wait
for its lease (`segments.store.cache_lease`). Otherwise every bid asks the store.
"""

from collections.abc import Sequence
from typing import Final

import hiredis

from rtb.lookup.link import Link, OnFound
from rtb.lookup.lookup import Dial, IsCurrent, Lookup, LookupOptions
from rtb.lookup.near_cache.cache import TRACK, Flight, NearCache, NearCacheOptions
from rtb.lookup.near_cache.lease import CacheLimits, Counts, Registration, uptime_s
from segments.store.cache_lease import REGISTER_EVERY_S, REGISTERED_S, register_command
from segments.store.error_code import error_code
from segments.store.reader import Meta

_DUE_BEFORE_S: Final = REGISTERED_S - REGISTER_EVERY_S


class CachingLookup(Lookup):
    """
    A lookup with a near cache, if the store can push changes.

    Args:
        room: Limits of the cache.
        dial, options, is_current: See `Lookup`.
    """

    def __init__(
        self,
        dial: Dial,
        options: LookupOptions,
        room: CacheLimits,
        is_current: IsCurrent | None = None,
    ) -> None:
        super().__init__(dial, options, is_current)
        self.counts: Counts = Counts()
        self._room = room
        self._register = register_command(room.lease_ms)
        self._near: NearCache | None = None

    def ask(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        """Look up the records of these ids, in the cache first; see `Lookup.ask`."""
        near = self._near
        if near is None or self._link is None:
            super().ask(ids, on_found)
        else:
            near.ask(ids, on_found)

    def _ask_store(self, id_: bytes, flight: Flight) -> None:
        super().ask((id_,), flight)

    async def _greeted(self, link: Link, meta: Meta) -> None:
        self._near = None
        near = self._near_of(link, meta)
        asked_at_s = uptime_s()
        if self._is_told(await link.call((*TRACK, self._register))):
            near.registration.confirm(asked_at_s, uptime_s())
            self._near = near

    async def _probed(self, link: Link, meta: Meta) -> None:
        near = self._near
        if near is None:
            # Refused before, perhaps by a read-only store.
            await self._greeted(link, meta)
            return
        if near.bucket_bits != meta.bucket_bits:
            # Another store; pending answers belong to the old store.
            near.ended()
            near = self._near = self._near_of(link, meta)
        asked_at_s = uptime_s()
        if asked_at_s >= near.registration.until_s - _DUE_BEFORE_S and self._is_told(
            await link.call((self._register,))
        ):
            near.registration.confirm(asked_at_s, uptime_s())

    def _near_of(self, link: Link, meta: Meta) -> NearCache:
        near = NearCache(
            NearCacheOptions(
                ask_store=self._ask_store,
                bucket_bits=meta.bucket_bits,
                limits=self._room,
                registration=Registration(REGISTERED_S),
                counts=self.counts,
                on_bug=self._options.on_bug,
                clock_s=uptime_s,
            )
        )
        link.listener = near
        return near

    def _is_told(self, replies: Sequence[object]) -> bool:
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                self.counts.refusal = error_code(reply)
                return False
        self.counts.refusal = ""
        return True
