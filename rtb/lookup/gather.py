"""Collects the separate answers to one bid's ids."""

from rtb.lookup.link import Found, LookupFault, OnFound


class Gather:
    """
    The records of some ids, until all have arrived.

    Args:
        found: The known records, in the order of the ids; each gap becomes a `part`.
        on_found: Called once, with all records, or at once with the first fault.
    """

    __slots__ = ("_found", "_left", "_on_found")

    def __init__(self, found: list[bytes | None], on_found: OnFound) -> None:
        self._found = found
        self._on_found = on_found
        self._left = 1  # for `all_asked`: some answers come before it

    def part(self, n: int) -> "Part":
        """Return the callback for an id, before its question is sent."""
        if self._left:
            self._left += 1
        return Part(self, n)

    def all_asked(self) -> None:
        """Declare that no further part follows."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._on_found(self._found)

    def take(self, n: int, answer: Found | LookupFault) -> None:
        """Take an id's answer."""
        if not isinstance(answer, LookupFault):
            self._found[n] = answer[0]
            self.all_asked()
        elif self._left:
            self._left = 0
            self._on_found(answer)


class Part:
    """An id's place among the ids of its bid."""

    __slots__ = ("_gather", "_n")

    def __init__(self, gather: Gather, n: int) -> None:
        self._gather = gather
        self._n = n

    def __call__(self, answer: Found | LookupFault) -> None:
        """Take the answer; an `OnFound`."""
        self._gather.take(self._n, answer)
