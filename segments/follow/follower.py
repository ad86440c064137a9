"""
Keeps a store up to a publication, and marks it fresh while its data is recent enough.

    every RTB_FOLLOW_POLL_S   read `LATEST`; if it is newer, fetch, verify and apply its files
    every second              while recent enough, raise `seg:1:fresh`, which bids check

- **Signed files only**: a trusted key signs `LATEST`, which has all files' checksums.
- **No step back** within a ledger: a `LATEST` with a lower number is ignored and counted. The
  number is in `followed.json` before the first file is applied, for a killed follower.
- **No guesses.** If an increment is missing or damaged, and so is a full or an increment after it,
  the store stays as it is, and becomes too old.
- **Age** is that of `LATEST`, by the wall clock, which may be wrong, or since first seen: the
  higher.

Bids treat the mark as a loader's: `segments.store.freshness`.
"""

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from math import inf
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from segments.files.published_place import NotThere, PlaceAway, PublishedPlace, WrongSize
from segments.follow.apply import SETTLE_S, State, apply_increment, check_readable, fill
from segments.runtime.follow_status import FRESH_FOR_S, FollowEvent, FollowStatus
from segments.store import keys
from segments.store.meta import is_laid_out
from segments.store.published.form import DamagedFile, UnreadableFile
from segments.store.published.latest import (
    LATEST_NAME,
    MAX_BYTES,
    Keys,
    Latest,
    PublishedFile,
    read,
)

_log = logging.getLogger(__name__)

_FOLLOWED: Final = "followed.json"


class Follower:
    """
    A store that follows a publication.

    Args:
        redis: The store, used only by us.
        trusted: Keys whose signatures are accepted.
        spool_dir: For files while they are read; ours alone.
        max_age_s: The highest age of `LATEST`.
        settle_s: Of bids' use of a store that was just closed.

    Attributes:
        state: The store's state; `None`: unknown, or not to be used.
        counts: Events so far.
        trouble: Why the last look failed, for operators; set from outside.
    """

    def __init__(
        self,
        redis: Redis,
        place: PublishedPlace,
        trusted: Keys,
        spool_dir: Path,
        *,
        max_age_s: float,
        now_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        settle_s: float = SETTLE_S,
    ) -> None:
        self._redis = redis
        self._place = place
        self._trusted = trusted
        self._spool_dir = spool_dir
        self._max_age_s = max_age_s
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._settle_s = settle_s
        self.state: State | None = None
        self.counts: Counter[FollowEvent] = Counter()
        self.trouble = ""
        self._applied_in_s = 0.0
        self._latest: Latest | None = None
        self._seen_at_s = -inf
        self._ledger_to_number = self._known_numbers()

    @property
    def status(self) -> FollowStatus:
        """The store's state, and the events so far."""
        latest, state = self._latest, self.state
        counts = {event: self.counts[event] for event in FollowEvent}
        if latest is None or state is None:
            return FollowStatus(
                pid=os.getpid(), max_age_s=self._max_age_s, events=counts, trouble=self.trouble
            )
        return FollowStatus(
            pid=os.getpid(),
            max_age_s=self._max_age_s,
            made_at_s=latest.made_at_s,
            seen_at_s=self._seen_at_s,
            number=state.number,
            opt_outs=state.opt_outs,
            applied_in_s=self._applied_in_s,
            events=counts,
            trouble=self.trouble,
        )

    @property
    def age_s(self) -> float:
        """The highest age of the store's data, in seconds; infinite without data."""
        return self.status.age_s(self._now_s(), self._monotonic_s())

    @property
    def may_be_believed(self) -> bool:
        """Whether the data stays recent enough until a mark raised now lapses."""
        return self.age_s <= self._max_age_s - FRESH_FOR_S

    async def look(self) -> str:
        """
        Bring the store up to the current publication.

        Returns:
            Why it was ignored, with the remedy; or empty.

        Raises:
            PlaceAway: The place can't be read.
            UnreadableFile: A file is damaged, or not signed by a trusted key.
            StoreUnusable, redis.exceptions.RedisError: The store can't be written.
        """
        if self.state is not None and not await is_laid_out(self._redis):
            self.state = None  # its server restarted empty
        with _named(LATEST_NAME):
            raw = await self._place.read(LATEST_NAME, MAX_BYTES)
        seen_at_s = self._monotonic_s()
        latest = read(raw, self._trusted)
        known = self._ledger_to_number.get(latest.ledger, 0)
        if latest.number < known:
            self.counts[FollowEvent.OLDER_LATEST] += 1
            return (
                f"LATEST has number {latest.number}, and {known} of the same ledger was seen"
                " before: put the newer files back, or, if they are lost, let the publisher write"
                " newer ones"
            )
        if self._latest is not None and self.state is not None and latest == self._latest:
            return ""
        self._remember(latest)
        self._clear({file.name for file in (latest.full, *latest.increments)})
        await self._bring_up(latest)
        self._latest, self._seen_at_s = latest, seen_at_s
        self._applied_in_s = self._monotonic_s() - seen_at_s
        return ""

    async def raise_fresh(self) -> None:
        """Mark the store fresh for bids, if its data is recent enough."""
        if self.may_be_believed:
            await self._redis.incr(keys.FRESH.decode())

    async def _bring_up(self, latest: Latest) -> None:
        state = self.state
        way = None
        if state is not None and state.ledger == latest.ledger:
            way = latest.way_from(state.number)
        if way is not None and state is not None:
            try:
                for file in way:
                    path = await self._fetched(file)
                    with _named(file.name):
                        self.state = state = await apply_increment(self._redis, path, state)
                    path.unlink()
                    self.counts[FollowEvent.INCREMENT] += 1
            except (NotThere, WrongSize, DamagedFile) as error:
                _log.warning("an increment can't be had (%s): a full anew", error)
                self.counts[FollowEvent.UNUSABLE_INCREMENT] += 1
            else:
                return
        behind = latest.way_from(latest.full.number)
        assert behind is not None, "LATEST was read so"
        files = (latest.full, *behind)
        paths = [await self._fetched(file) for file in files]
        for file, path in zip(files, paths, strict=True):
            with _named(file.name):
                check_readable(path)
        self.state = None
        self.state = await fill(self._redis, paths[0], paths[1:], settle_s=self._settle(state))
        self.counts[FollowEvent.FULL] += 1
        self._clear(())

    def _settle(self, state: State | None) -> float:
        return 0.0 if state is None else self._settle_s

    async def _fetched(self, file: PublishedFile) -> Path:
        path = self._spool_dir / file.name
        if not await asyncio.to_thread(_is_whole, path, file):
            with _named(file.name):
                await self._place.fetch(file.name, file.size_bytes, path)
            if not await asyncio.to_thread(_is_whole, path, file):
                path.unlink()
                raise DamagedFile(f"{file.name} is another than LATEST says")
        return path

    def _clear(self, kept: Collection[str]) -> None:
        for path in self._spool_dir.glob("*.seg"):
            if path.name not in kept:
                path.unlink()

    def _known_numbers(self) -> dict[str, int]:
        with suppress(OSError, ValueError):
            known = json.loads((self._spool_dir / _FOLLOWED).read_bytes())
            return {str(ledger): int(number) for ledger, number in known.items()}
        return {}

    def _remember(self, latest: Latest) -> None:
        if self._ledger_to_number.get(latest.ledger, 0) < latest.number:
            self._ledger_to_number[latest.ledger] = latest.number
            written = self._spool_dir / f"{_FOLLOWED}.new"
            written.write_text(json.dumps(self._ledger_to_number))
            written.replace(self._spool_dir / _FOLLOWED)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (PlaceAway, UnreadableFile) as error:
        raise type(error)(f"{name}: {error}") from None


def _is_whole(path: Path, file: PublishedFile) -> bool:
    try:
        with path.open("rb") as opened:
            return file_digest(opened, "sha256").hexdigest() == file.sha256
    except FileNotFoundError:
        return False
