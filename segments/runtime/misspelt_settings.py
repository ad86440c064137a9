"""
Variables that have the form of a setting, and are none.

A setting that is misspelt leaves its default in force without a word, of what may forbid as
well. So one that is nearly the name of a setting ends the process; another may be of a newer
release that was rolled back, and is only said.

Each process judges the variables of its own plane: those with its prefix, and of the other
plane's those that are nearly a name which it reads itself.
"""

from collections.abc import Container, Iterable, Iterator
from typing import Final, NamedTuple

from segments.runtime.setting_names import SETTING_NAMES

_NEAR_LETTERS: Final = 3
_PREFIXES: Final = ("RTB_", "SEGMENTS_")
"""SERVER_PORT is a setting as well, and SERVER_HOST anybody's."""


class Unread(NamedTuple):
    """A variable that no process of a plane reads, and the setting that may be meant; or none."""

    name: str
    meant: str | None

    def __str__(self) -> str:
        if self.meant is None:
            return f"{self.name}: set, and no setting of this release"
        return f"{self.name}: no setting; {self.meant} may be meant"


def unread(set_names: Iterable[str], read: Container[str], prefix: str) -> Iterator[Unread]:
    """
    Yield each variable that is no setting and looks as if it should be one of a plane, in order.

    Args:
        set_names: Names of variables that are set, in capitals.
        read: Names of all settings that the plane reads.
        prefix: Of the plane's own settings.
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
    """Count the letters to put in, take out or replace (Levenshtein)."""
    row = list(range(len(other) + 1))
    for n, letter in enumerate(one, 1):
        before, row = row, [n]
        for m, each in enumerate(other, 1):
            row.append(min(before[m] + 1, row[m - 1] + 1, before[m - 1] + (letter != each)))
    return row[-1]
