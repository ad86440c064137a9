"""
A follower's progress, as a file that the bid listener beside it reads.

    follower   writes DATA_DIR/follow/status.json, whole, after each change
    listener   reads the file for health, metrics and, if configured, the age in answers

Each follower begins the file anew, before its listener starts: monotonic times of another boot mean
nothing. A reader computes the age itself, so an abandoned file becomes old, never fresh.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from math import ceil, inf
from pathlib import Path
from typing import Final

import msgspec

FRESH_FOR_S: Final = 6.0
"""How long bids rely on a follower's last raise: the smallest value of their setting."""

_NAME: Final = "status.json"


class FollowEvent(StrEnum):
    """Events of a follower. Also a metric label."""

    FULL = "full"  # a full was loaded, with the increments after it
    INCREMENT = "increment"  # an increment was applied
    UNUSABLE_INCREMENT = "unusable_increment"  # missing or damaged, so a full was looked for
    OLDER_LATEST = "older_latest"  # ignored
    NOT_SIGNED = "not_signed"  # LATEST, by no trusted key
    DAMAGED = "damaged"  # a file, or LATEST
    NEWER = "newer"  # a file or LATEST of a later version
    PLACE_AWAY = "place_away"  # the place can't be read, or lacks a file
    STORE_AWAY = "store_away"  # the pod's own store
    VOLUME = "volume"  # the pod's own disk


class FollowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A follower's progress."""

    pid: int
    max_age_s: float
    made_at_s: float | None = None
    """Unix time of the store's publication; `None`: it has none."""
    seen_at_s: float = 0.0
    """When the follower first saw it, on the monotonic clock."""
    number: int = 0
    """Of the store's state."""
    opt_outs: int = 0
    """The ledger's number of the store's last opt-out."""
    applied_in_s: float = 0.0
    """Duration of the last change to the store, from reading `LATEST`."""
    events: Mapping[FollowEvent, int] = msgspec.field(default_factory=dict)
    trouble: str = ""
    """Why the last look failed, with the remedy; empty: it did not."""

    def age_s(self, now_s: float, monotonic_s: float) -> float:
        """Return the age of the store's data, in seconds; infinite without data."""
        if self.made_at_s is None:
            return inf
        return max(now_s - self.made_at_s, monotonic_s - self.seen_at_s, 0.0)

    def why_closed(self, now_s: float, monotonic_s: float) -> str:
        """Return why bids may not use the data, and the remedy; empty: they may."""
        age_s = self.age_s(now_s, monotonic_s)
        if age_s == inf:
            why = self.trouble or "the first full is awaited, or being loaded"
            return f"nothing that is published has been loaded yet: {why}"
        if age_s > self.max_age_s - FRESH_FOR_S:
            why = self.trouble or (
                "LATEST is not renewed: see whether `rtb-segments publish` runs, and whether it"
                " writes to the place that this pod reads"
            )
            return (
                f"the followed data are {ceil(age_s)} s old, and RTB_FOLLOW_MAX_AGE_S permits"
                f" {self.max_age_s:g} s: {why}"
            )
        return ""


def follow_dir(data_dir: Path) -> Path:
    """Return a follower's own folder."""
    return data_dir / "follow"


def write_status(data_dir: Path, status: FollowStatus) -> None:
    """
    Write the file, whole.

    Raises:
        OSError: It can't be written.
    """
    path = follow_dir(data_dir) / _NAME
    written = path.with_suffix(".new")
    written.write_bytes(msgspec.json.encode(status))
    written.replace(path)


def read_status(data_dir: Path) -> FollowStatus | None:
    """Return the progress of this folder's follower, if any."""
    try:
        return msgspec.json.decode((follow_dir(data_dir) / _NAME).read_bytes(), type=FollowStatus)
    except (OSError, msgspec.DecodeError):
        return None


class FollowReader:
    """
    Reads the progress of the follower beside this process.

    Args:
        data_dir: Of the follower.
        now_s: Unix time.
        monotonic_s: The machine's monotonic clock.
    """

    def __init__(
        self,
        data_dir: Path,
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data_dir = data_dir
        self._now_s = now_s
        self._monotonic_s = monotonic_s

    def status(self) -> FollowStatus | None:
        """Return the progress, if any."""
        return read_status(self._data_dir)

    def why_closed(self) -> str:
        """See `FollowStatus.why_closed`."""
        status = self.status()
        if status is None:
            return "no follower runs: start the pod by `rtb-segments serve --follow`"
        return status.why_closed(self._now_s(), self._monotonic_s())

    def troubles(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return why bids may not use the data, and why data in use are not renewed."""
        why, status = self.why_closed(), self.status()
        if why or status is None or not status.trouble:
            return [why] if why else (), ()
        return (), [f"not followed: {status.trouble}"]

    def age_s(self) -> float:
        """See `FollowStatus.age_s`."""
        status = self.status()
        return inf if status is None else status.age_s(self._now_s(), self._monotonic_s())
