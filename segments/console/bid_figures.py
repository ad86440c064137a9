"""Outcomes of bids by recipient: the listeners' figures as pages show them."""

from collections.abc import Collection, Mapping, Sequence
from math import inf, isfinite
from typing import NamedTuple

from markupsafe import Markup

from segments.console import charts
from segments.console.bid_history import STALE_AFTER_S, Figures, Minute
from segments.console.formats import percent
from segments.upkeep.listener_figures import Ending, Reading

TRUSTED = "trusted caller"


class Group(NamedTuple):
    """Outcomes in one column."""

    kind: str  # class of the sheet
    word: str
    outcomes: frozenset[str]  # of rtb_requests


GROUPS = (
    Group("e-enriched", "Enriched", frozenset({"enriched"})),
    Group("e-held_out", "Held out", frozenset({"held_out"})),
    Group("e-no_match", "No match", frozenset({"no_match"})),
    Group("e-no_identity", "No id", frozenset({"no_identity"})),
    Group("e-no_consent", "No consent", frozenset({"no_consent"})),
    Group("e-opted_out", "Opted out", frozenset({"opted_out"})),
    Group("e-late", "Late, down", frozenset({"out_of_time", "store_down", "shed"})),
    Group("e-malformed", "Malformed", frozenset({"malformed"})),
)


class RecipientFigures(NamedTuple):
    """A recipient's bids of the recent time."""

    name: str  # empty: the trusted caller
    per_s: float
    shares: Sequence[float]  # of each of `GROUPS`
    bar: Markup

    @property
    def enriched(self) -> float:
        """The share of enriched bids."""
        return self.shares[0]


class Listener(NamedTuple):
    """A bid listener's state."""

    url: str
    reading: Reading
    state: tuple[str, str, str]  # of the templates' macro
    why: str  # an operator must act; empty: no need


def by_recipient(figures: Figures, names: Collection[str]) -> list[RecipientFigures]:
    """
    Return the figures of each recipient, the busiest first.

    `names`: recipients to list even without a bid.
    """
    counted: dict[str, dict[str, float]] = {name: {} for name in names}
    for ending, count in figures.recent.items():
        outcomes = counted.setdefault(ending.recipient, {})
        outcomes[ending.outcome] = outcomes.get(ending.outcome, 0.0) + count
    rows = [_row(name, outcomes, figures.recent_s) for name, outcomes in counted.items()]
    return sorted(rows, key=lambda row: (-row.per_s, row.name))


def reasons(
    recent: Mapping[Ending, float], name: str | None = None
) -> list[tuple[str, str, float]]:
    """
    Return outcome, reason and their share of all bids, the most frequent first.

    `name`: of one recipient; `None`: of all.
    """
    total = 0.0
    counted: dict[tuple[str, str], float] = {}
    for ending, count in recent.items():
        if name is None or ending.recipient == name:
            total += count
            if ending.reason:
                key = ending.outcome, ending.reason
                counted[key] = counted.get(key, 0.0) + count
    listed = [(outcome, reason, count / total) for (outcome, reason), count in counted.items()]
    return sorted(listed, key=lambda each: (-each[2], each[:2]))


def listeners(figures: Figures, now_s: float) -> list[Listener]:
    """Return the listeners as last read."""
    return [_listener(reading, now_s) for reading in figures.readings]


def spark(minutes: Sequence[Minute]) -> Markup | None:
    """Draw the hour's bids."""
    return charts.sparkline([each.per_s for each in minutes], "Bids by minute, in the last hour")


def told_times(minutes: Sequence[Minute]) -> list[tuple[float, float]]:
    """Return the start and the 99th percentile of each minute with answers, in seconds."""
    known = [(each.from_s, each.p99_s) for each in minutes if each.p99_s is not None]
    # Beyond the largest bucket: at least the longest known duration.
    longest = max((p99_s for _, p99_s in known if isfinite(p99_s)), default=0.05)
    return [(at_s, max(longest, 0.05) if p99_s == inf else p99_s) for at_s, p99_s in known]


def _row(name: str, outcomes: Mapping[str, float], seconds: float) -> RecipientFigures:
    total = sum(outcomes.values())
    if not total:
        return RecipientFigures(name, 0.0, [0.0] * len(GROUPS), Markup(""))
    shares = [sum(outcomes.get(each, 0.0) for each in group.outcomes) / total for group in GROUPS]
    bar = charts.shares(
        [(group.kind, share) for group, share in zip(GROUPS, shares, strict=True)],
        f"{percent(shares[0])} enriched",
    )
    return RecipientFigures(name, total / max(seconds, 1.0), shares, bar)


def _listener(reading: Reading, now_s: float) -> Listener:
    url = reading.url
    if reading.counts is None:
        return Listener(url, reading, ("bad", "bad", "Not seen"), reading.trouble)
    if now_s - reading.at_s > STALE_AFTER_S:
        return Listener(url, reading, ("warn", "clock", "Not read lately"), "")
    if not reading.is_ready:
        return Listener(url, reading, ("bad", "bad", "Not ready"), reading.reason)
    if not reading.is_enriching or reading.reason:
        return Listener(url, reading, ("warn", "warn", "Ready, but"), reading.reason)
    return Listener(url, reading, ("good", "good", "Ready"), "")
