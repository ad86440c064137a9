"""
Variables that look like settings and are none.

A misspelt setting silently leaves its default in force, even if it was to forbid something. So a
near miss ends the process; another unknown name may belong to a newer release that was rolled back,
and is only reported.

Each process judges variables with its own plane's prefix, and near misses of the other plane's
names that it reads.
"""

from collections.abc import Container, Iterable, Iterator
from typing import Final, NamedTuple

from segments.runtime.setting_names import SETTING_NAMES

_NEAR_LETTERS: Final = 3
_PREFIXES: Final = ("RTB_", "SEGMENTS_")
"""SERVER_PORT is a setting as well; SERVER_HOST may belong to anything."""


class Unread(NamedTuple):
    """A variable that no process of a plane reads, and the probable setting, if any."""

    name: str
    meant: str | None

    def __str__(self) -> str:
        if self.meant is None:
            return f"{self.name}: set, and no setting of this release"
        return f"{self.name}: no setting; {self.meant} may be meant"


def unread(set_names: Iterable[str], read: Container[str], prefix: str) -> Iterator[Unread]:
    """
    Yield each variable that looks like a setting of a plane and is none, in order.

    `set_names` are in capitals; `read` are all settings of the plane, `prefix` is its own.
    """
    ours = {name for name in set_names if name.startswith(_PREFIXES)}
    for name in sorted(ours.difference(SETTING_NAMES)):
        meant = _nearest(name)
        if name.startswith(prefix) or meant in read:
            yield Unread(name, meant)


def _nearest(name: str) -> str | None:
    alike = [each for each in SETTING_NAMES if each.partition("_")[0] == name.partition("_")[0]]
    words = _words(name)
    for each in alike:
        if _words(each) == words or each.replace("_", "") == name.replace("_", ""):
            return each
    distance, nearest = min(((_distance(name, each), each) for each in alike), default=(99, ""))
    return nearest if distance <= _NEAR_LETTERS else None


def _words(name: str) -> list[str]:
    return sorted(word.removesuffix("S") for word in name.split("_"))


def _distance(one: str, other: str) -> int:
    """Return the Levenshtein distance: letters to insert, delete or replace."""
    row = list(range(len(other) + 1))
    for n, letter in enumerate(one, 1):
        before, row = row, [n]
        for m, each in enumerate(other, 1):
            row.append(min(before[m] + 1, row[m - 1] + 1, before[m - 1] + (letter != each)))
    return row[-1]
