"""
The last hour's bids, as the listeners count them.

Two readings' difference counts a short time: five seconds each for the last five minutes, and a
minute each for the hour. All is in this process's memory alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from segments.runtime.pauses import wait_or_stop
from segments.upkeep.listener_figures import Counts, Ending, Reading, read_all

EVERY_S = 5.0
STALE_AFTER_S = 10.0
RECENT_S = 300
MINUTES = 60

_S_PER_MINUTE = 60


class Minute(NamedTuple):
    """
    The answers of a minute.

    Attributes:
        from_s: Its start, Unix time.
        per_s: Bids answered.
        p99_s: 99th percentile of the answer times; `None`: no answer; infinite: beyond the largest
            bucket.
    """

    from_s: float
    per_s: float
    p99_s: float | None


class Figures(NamedTuple):
    """
    The listeners' figures, as last read.

    Attributes:
        readings: The last of each listener, in the order of the settings.
        recent_s: The length of the recent time: up to `RECENT_S`.
        recent: Bids of that time, by their ending.
        minutes: Whole minutes of the last hour, oldest first.
    """

    readings: Sequence[Reading]
    recent_s: float
    recent: Mapping[Ending, float]
    minutes: Sequence[Minute]


class _Slice(NamedTuple):
    at_s: float  # its end
    endings: Mapping[Ending, float]


@dataclass
class _Open:
    """A minute that may not be over."""

    from_s: float
    seconds: float = 0.0
    answers: float = 0.0
    edge_to_answers: dict[float, float] = field(default_factory=dict)

    def add(self, seconds: float, answers: float, by_edge: Mapping[float, float]) -> None:
        self.seconds += seconds
        self.answers += answers
        for edge, count in by_edge.items():
            self.edge_to_answers[edge] = self.edge_to_answers.get(edge, 0.0) + count


class BidHistory:
    """An hour of figures; `urls` are of the listeners' admin ports."""

    def __init__(self, urls: Sequence[str] = (), now_s: Callable[[], float] = time.time) -> None:
        self._urls = urls
        self._now_s = now_s
        self._since_s: float | None = None
        self._readings: dict[str, Reading] = {}
        self._read: dict[str, Reading] = {}  # the last with counts
        self._slices: deque[_Slice] = deque()
        self._minutes: deque[_Open] = deque(maxlen=MINUTES + 1)

    async def run(self, stopping: asyncio.Event) -> None:
        """Read the listeners every few seconds until stopped."""
        while not stopping.is_set():
            self.take(await read_all(self._urls, self._now_s))
            await wait_or_stop(stopping, EVERY_S)

    def take(self, readings: Sequence[Reading]) -> None:
        """Take a reading of each listener."""
        now_s = self._now_s()
        since_s = now_s if self._since_s is None else self._since_s
        last_s = self._slices[-1].at_s if self._slices else since_s
        self._since_s = since_s
        endings: dict[Ending, float] = {}
        by_edge: dict[float, float] = {}
        for reading in readings:
            self._readings[reading.url] = reading
            if reading.counts is None:
                continue
            before = self._read.get(reading.url)
            self._read[reading.url] = reading
            if before is not None and before.counts is not None:
                _add_new(endings, by_edge, before.counts, reading.counts)
        self._slices.append(_Slice(now_s, endings))
        while self._slices[0].at_s < now_s - RECENT_S:
            self._slices.popleft()
        self._minute(now_s).add(now_s - last_s, sum(endings.values()), by_edge)

    def figures(self) -> Figures:
        """Return what was counted."""
        now_s = self._now_s()
        recent: dict[Ending, float] = {}
        for each in self._slices:
            if each.at_s >= now_s - RECENT_S:
                for ending, count in each.endings.items():
                    recent[ending] = recent.get(ending, 0.0) + count
        since_s = now_s if self._since_s is None else self._since_s
        return Figures(
            [self._readings[url] for url in self._urls if url in self._readings],
            min(RECENT_S, now_s - since_s),
            recent,
            [
                Minute(each.from_s, each.answers / each.seconds, quantile(each.edge_to_answers))
                for each in self._minutes
                if each.seconds
                and now_s - MINUTES * _S_PER_MINUTE <= each.from_s
                and each.from_s + _S_PER_MINUTE <= now_s
            ],
        )

    def _minute(self, now_s: float) -> _Open:
        from_s = now_s - now_s % _S_PER_MINUTE
        if not self._minutes or self._minutes[-1].from_s != from_s:
            self._minutes.append(_Open(from_s))
        return self._minutes[-1]


def quantile(edge_to_answers: Mapping[float, float], share: float = 0.99) -> float | None:
    """
    Return the duration in seconds that `share` of the answers kept, as Prometheus estimates it.

    Args:
        edge_to_answers: Cumulative, by rising edges; the last is infinite.
        share: Of all answers, 0 to 1.

    Returns:
        `None` without an answer; infinite beyond the last finite edge.
    """
    total = edge_to_answers.get(inf, 0.0)
    if not total:
        return None
    wanted = share * total
    lower, below = 0.0, 0.0
    for edge, count in edge_to_answers.items():
        if count >= wanted:
            if edge == inf:
                return inf
            return lower + (edge - lower) * (wanted - below) / max(count - below, 1e-9)
        lower, below = edge, count
    return inf


def _add_new(
    endings: dict[Ending, float], by_edge: dict[float, float], before: Counts, now: Counts
) -> None:
    """Add a listener's counts between two readings; after its restart, all of them."""
    is_new = any(now.endings.get(ending, 0.0) < count for ending, count in before.endings.items())
    for ending, count in now.endings.items():
        new = count - (0.0 if is_new else before.endings.get(ending, 0.0))
        if new:
            endings[ending] = endings.get(ending, 0.0) + new
    for edge, count in now.edge_to_answers.items():
        new = count - (0.0 if is_new else before.edge_to_answers.get(edge, 0.0))
        by_edge[edge] = by_edge.get(edge, 0.0) + new
