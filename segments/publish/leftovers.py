"""
Deletes published files that `LATEST` has not named for a while.

    10 minutes   a follower may be about to read it
    1 minute     it may hold what these recipients may no longer see
    for good     the last full but one, if it holds nothing of that kind
"""

from typing import Final

from segments.files.published_place import NotThere, PublishedPlace, WrongSize
from segments.store.published.form import Kind
from segments.store.published.latest import Latest, number_in

KEPT_S: Final = 600.0
"""For a file that a follower may be about to read."""

_REVOKED_KEPT_S: Final = 60.0
"""With data that these recipients may no longer see."""


class Leftovers:
    """The files of a place that `LATEST` does not name."""

    def __init__(self, place: PublishedPlace) -> None:
        self._place = place
        self._since_s: dict[str, float] = {}
        self._looked_at_s = 0.0

    async def tidy(self, latest: Latest, kept_from: int, at_s: float) -> bool:
        """
        Delete due files; tell whether all of `LATEST` are there.

        Numbers below `kept_from` may hold data that may no longer be seen.

        Raises:
            segments.files.published_place.PlaceAway: The place is away.
        """
        if 0 <= at_s - self._looked_at_s < _REVOKED_KEPT_S / 2:
            return True
        self._looked_at_s = at_s
        named = names_in(latest)
        numbers = {
            name: number
            for name in await self._place.names()
            if (number := number_in(name)) is not None
        }
        self._since_s = {name: self._since_s.get(name, at_s) for name in numbers.keys() - named}
        fulls = [name for name in self._since_s if name.startswith(Kind.FULL)]
        last = max(fulls, key=lambda name: numbers[name], default="")
        for name, since_s in list(self._since_s.items()):
            is_revoked = numbers[name] < kept_from
            if name == last and not is_revoked:
                continue
            if at_s - since_s >= (_REVOKED_KEPT_S if is_revoked else KEPT_S):
                await self._place.delete(name)
                del self._since_s[name]
        return named <= numbers.keys()


def names_in(latest: Latest) -> set[str]:
    """Return the names of all files that a follower may need."""
    return {each.name for each in (latest.full, *latest.increments)}


async def are_whole(place: PublishedPlace, latest: Latest) -> bool:
    """
    Tell whether all files of `LATEST` are there, unchanged.

    Raises:
        segments.files.published_place.PlaceAway: The place is away.
    """
    try:
        for file in (latest.full, *latest.increments):
            if await place.sha256(file.name, file.size_bytes) != file.sha256:
                return False
    except (NotThere, WrongSize):
        return False
    return True
