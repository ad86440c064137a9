"""
Publishes a store: a full now and then, increments on changes, and `LATEST` after them.

    each second   the ledger's last opt-out, its catalog     -> an increment, if either is new
    every 10 s    changed buckets                            -> an increment
    every 30 s    nothing has changed                        -> `LATEST` anew, as of now
    when due      all buckets                                -> a full, in the background

**`LATEST` is written only while it is true**: at `made_at_s` the ledger had no opt-out after
`opt_outs`, and the files contain all up to that. The ledger is read after that moment and before
the store; `segments.publish.buckets` adds opt-outs that the store may lack. Without ledger or store
nothing is written, and followers' data become too old.

**An increment holds a bounded number of buckets**, so that opt-outs never wait for a flood of
changes: the rest is owed to the next. When the scope changes (a grant, a revocation, an account's
reach), all buckets are owed, and a full follows.

**A publisher that is stopped or killed loses nothing.** Changed buckets stay marked until `LATEST`
names a file with them. The next publisher goes on from `LATEST` if the same store has a note of its
state (`segments.publish.note`). Otherwise, also amid a round of all buckets, it begins with a full.
"""

import logging
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.published_place import PublishedPlace
from segments.ledger.database.engine import reading
from segments.ledger.revision import revision
from segments.model.catalog import CatalogSnapshot
from segments.projection.catalog import snapshot_of
from segments.projection.one_ledger import own_meta
from segments.publish.file_maker import FileMaker
from segments.publish.fulls import NUMBERS_A_S, Fulls
from segments.publish.leftovers import Leftovers, are_whole
from segments.publish.moment import Now, look
from segments.publish.note import Note, known_latest, packed, unpacked
from segments.publish.options import PublishOptions
from segments.publish.visible import Visible
from segments.store.changed_buckets import ChangedBuckets
from segments.store.published.form import Header
from segments.store.published.latest import LATEST_NAME, Latest, PublishedFile, number_in, sign
from segments.store.reader import Meta, StoreUnusable
from segments.store.servers.masters import runs

_log = logging.getLogger(__name__)

SAY_EVERY_S: Final = 25.0
"""Between rewrites of an unchanged `LATEST`; readers are promised 30 s."""

_BECAME_ANOTHER: Final = "the store became another while it was read"


class Publisher:
    """
    A publication, to a single place.

    Args:
        ledger: The system of record.
        redis: The store.
        place: Where files are put.
        key: Signs `LATEST`.
        names: Of the recipients; `None`: everything is published.
        spool_dir: For a file while it is made.
        options: Intervals and batch sizes.
        name: Unique among the places of the store.
        place_name: For people.
        now_s: Unix time.

    Attributes:
        latest: As last written, if any.
    """

    def __init__(
        self,
        ledger: AsyncEngine,
        redis: Redis,
        place: PublishedPlace,
        key: Ed25519PrivateKey,
        names: Collection[str] | None,
        spool_dir: Path,
        options: PublishOptions,
        *,
        name: str,
        place_name: str = "",
        now_s: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._redis = redis
        self._place = place
        self._key = key
        self._names = None if names is None else sorted(set(names))
        self._options = options
        self._now_s = now_s
        self._changed = ChangedBuckets(redis, name, place_name)
        self._files = FileMaker(redis, place, spool_dir)
        self._leftovers = Leftovers(place)
        self._visible = Visible(names)
        self._revision = -1
        self._runs: frozenset[bytes] = frozenset()
        self._bucket_bits = 0
        self._owed: set[int] = set()
        self._owes_all = False
        """`_owed` is the rest of all buckets, marked nowhere else."""
        self._fulls = Fulls(options.full_every_s)
        self._changes_at_s = self._opt_outs_at_s = 0.0
        self._last_number = 0
        self._kept_from = 0
        """Older fulls may have data that these recipients may no longer see."""
        self.latest: Latest | None = None

    async def step(self) -> None:
        """
        Publish everything that is due.

        Raises:
            StoreUnusable, redis.exceptions.RedisError: The store is away or unfit.
            segments.ledger.database.errors.LedgerAway: The ledger is away.
            segments.files.published_place.PlaceAway: The place is away.
            segments.model.refusal.NotFound: A recipient does not exist.
        """
        if self.latest is None:
            await self._resume()
        published = None if self.latest is None else self.latest.opt_outs
        now = await look(self._ledger, self._redis, self._now_s(), published)
        if self.latest is None or await self._is_lost(now):
            await self._begin(now)
            return
        # After the changed buckets were taken: a newer audience has no members in them, or they are
        # marked again.
        async with reading(self._ledger) as conn:
            now = now._replace(revision=await revision(conn))
        if now.revision != self._revision:
            await self._take_catalog(now)
        numbers = sorted(islice(self._owed, self._options.buckets_at_once))
        are_opt_outs_due = now.new and now.at_s - self._opt_outs_at_s >= (
            self._options.opt_outs_every_s
        )
        # A full needs a new state's number, even without changes.
        needs_state = self.latest.state == self.latest.full.number and self._is_full_due(now)
        if numbers or are_opt_outs_due or self._visible.is_new or needs_state:
            await self._increment(now, numbers)
        elif self._take_full() or (not now.new and now.at_s - self.latest.made_at_s >= SAY_EVERY_S):
            await self._write(now, self.latest.full, self.latest.increments)
        if self._is_full_due(now):
            header = self._header(now, self.latest.state)
            full = self._make_full(now, header, self._visible.catalog(), pauses=True)
            self._fulls.start(full, now.at_s)
        if not await self._leftovers.tidy(self.latest, self._kept_from, now.at_s):
            _log.warning("others have deleted a published file: a full follows")
            self._fulls.want()

    async def stop(self) -> None:
        """Give up a full in the background."""
        await self._fulls.stop()

    async def full_made(self) -> None:
        """Wait for a full in the background, if any."""
        if self._fulls.making is not None:
            await self._fulls.making

    async def _is_lost(self, now: Now) -> bool:
        """Take the changed buckets; tell whether the list of changes was lost."""
        assert self.latest is not None, "something is published"
        is_other = (
            now.meta.bucket_bits != self._bucket_bits
            or now.meta.whose.ledger_id != self.latest.ledger
            or now.opt_outs < self.latest.opt_outs
            or await self._found_runs() != self._runs
        )
        numbers = None
        if not is_other:
            # `take` repeats buckets in hand: finish those first.
            if self._owed or now.at_s - self._changes_at_s < self._options.changes_every_s:
                return False
            numbers = await self._changed.take(now.meta, now.at_s)
        if numbers is None:
            _log.warning("the store is another than the one that was published: a full follows")
            return True
        self._owed.update(numbers)
        self._changes_at_s = now.at_s
        return False

    async def _take_catalog(self, now: Now) -> None:
        async with reading(self._ledger) as conn:
            catalog = await snapshot_of(conn, now.revision)
        if self._visible.take(catalog):
            await self.stop()  # the running full has data that must be hidden now
            self._owed.update(range(1 << now.meta.bucket_bits))
            self._owes_all = True
            self._fulls.want()
            self._kept_from = self._last_number + 1
        self._files.take(self._visible.scope)
        self._revision = now.revision

    # Where a publication begins or goes on.

    async def _resume(self) -> None:
        """Go on from an earlier publisher's state, if that is safe."""
        meta = await own_meta(self._ledger, self._redis)
        # First: from here on an earlier publisher changes nothing.
        notes = await self._changed.resume(meta, self._now_s())
        before = await known_latest(self._place, self._key)
        known = [number_in(name) or 0 for name in await self._place.names()]
        self._last_number = max(self._last_number, *known, before.number if before else 0)
        # A follower gets past a damaged increment only by a newer full.
        if before is None or not await are_whole(self._place, before):
            return
        self._runs = await self._found_runs()
        note = unpacked((notes or {}).get(before.state))
        if note is None or not note.continues(self._note(meta, note)):
            return
        self._visible.begin(note.seen)
        self._revision = -1
        self._bucket_bits = meta.bucket_bits
        self._owed, self._owes_all = set(), False
        self._kept_from = note.kept_from
        self._fulls.begin(before, is_wanted=before.full.number < note.kept_from)
        self.latest = before

    async def _begin(self, now: Now) -> None:
        """Publish everything, regardless of earlier publications."""
        await self.stop()
        # After a failure, begin again: earlier changes are not marked.
        self.latest = None
        self._runs = await self._found_runs()
        await self._changed.begin(now.meta, now.at_s)
        self._owed, self._owes_all = set(), False
        self._visible.begin()
        await self._take_catalog(now)
        self._bucket_bits = now.meta.bucket_bits
        # Later changes go into the first increment.
        number = self._kept_from = self._number()
        catalog = self._visible.catalog()
        full = await self._make_full(now, self._header(now, number), catalog)
        self._fulls.begin(await self._write(now, full, ()))
        self._visible.said(catalog)

    async def _found_runs(self) -> frozenset[bytes]:
        return frozenset((await runs(self._redis)).run_to_server)

    def _note(self, meta: Meta, like: Note | None = None) -> Note:
        return Note(
            ledger=meta.whose.ledger_id,
            names=self._names,
            runs=sorted(self._runs),
            bucket_bits=meta.bucket_bits,
            kept_from=self._kept_from if like is None else like.kept_from,
            seen=self._visible.seen if like is None else like.seen,
        )

    # Writing files.

    async def _make_full(
        self, now: Now, header: Header, catalog: CatalogSnapshot, *, pauses: bool = False
    ) -> PublishedFile:
        return await self._files.full(
            header, now.missing, catalog, lambda: self._check_same(now), pauses=pauses
        )

    async def _increment(self, now: Now, numbers: list[int]) -> None:
        assert self.latest is not None, "a full comes first"
        is_last = len(numbers) == len(self._owed)
        is_shown_anew = self._visible.is_new or (is_last and self._visible.hides_some)
        catalog = self._visible.catalog(with_hidden=is_last)
        entry = await self._files.increment(
            self._header(now, self._number(), behind=self.latest.state),
            now.new,
            numbers,
            now.missing,
            catalog if is_shown_anew else None,
            lambda: self._check_same(now),
        )
        self._take_full()
        await self._write(now, self.latest.full, (*self.latest.increments, entry), is_last=is_last)
        self._visible.said(catalog)
        self._owed.difference_update(numbers)
        self._owes_all &= bool(self._owed)
        self._opt_outs_at_s = now.at_s

    def _take_full(self) -> bool:
        """Put a finished full into `LATEST`, not yet written; tell whether there was one."""
        assert self.latest is not None, "a full comes first"
        with_full = self._fulls.take(self.latest)
        self.latest = with_full or self.latest
        return with_full is not None

    def _is_full_due(self, now: Now) -> bool:
        """Tell whether to make a full of the state that followers have."""
        assert self.latest is not None, "a full comes first"
        is_busy = self._owed or self._visible.hides_some or now.new
        return not is_busy and self._fulls.is_due(self.latest, now.at_s)

    async def _write(
        self,
        now: Now,
        full: PublishedFile,
        increments: tuple[PublishedFile, ...],
        *,
        is_last: bool = False,
    ) -> Latest:
        """Write `LATEST`; `is_last`: no taken bucket is owed after that."""
        latest = Latest(
            ledger=now.meta.whose.ledger_id,
            number=self._number(),
            made_at_s=now.at_s,
            opt_outs=now.opt_outs,
            full=full,
            increments=increments,
        )
        # Amid a round of all buckets without a note: its rest is marked nowhere.
        can_be_resumed = is_last or not (self._owes_all or self._visible.hides_some)
        note = packed(self._note(now.meta)) if can_be_resumed else b""
        if not await self._changed.note(latest.state, note):
            raise StoreUnusable(_BECAME_ANOTHER)
        await self._place.put(LATEST_NAME, sign(latest, self._key))
        self.latest = latest
        await self._changed.done(latest.state, now.at_s, all_taken=is_last)
        return latest

    async def _check_same(self, now: Now) -> None:
        """
        Check that the store was not emptied or replaced while it was read.

        Raises:
            StoreUnusable: It may have been, or has another publisher.
        """
        meta = await own_meta(self._ledger, self._redis)
        is_same = meta.bucket_bits == now.meta.bucket_bits
        if not is_same or await self._found_runs() != self._runs or not await self._changed.note():
            raise StoreUnusable(_BECAME_ANOTHER)

    def _header(self, now: Now, number: int, behind: int | None = None) -> Header:
        return Header(
            ledger=now.meta.whose.ledger_id,
            number=number,
            behind=behind,
            made_at_s=now.at_s,
            opt_outs=now.opt_outs,
            bucket_bits=now.meta.bucket_bits,
        )

    def _number(self) -> int:
        """Return a number above all earlier ones."""
        self._last_number = max(self._last_number + 1, int(self._now_s() * NUMBERS_A_S))
        return self._last_number
