"""The answers to one bid's ids that come one by one, for who wants them together."""

from rtb.lookup.link import Found, LookupFault, OnFound


class Gather:
    """
    What is found of some ids, until it is all there.

    Args:
        found: What is known already, in the order of the ids; each place that is not
            becomes a `part`.
        on_found: Called once: with all of it, or with the first fault at once.
    """

    __slots__ = ("_found", "_left", "_on_found")

    def __init__(self, found: list[bytes | None], on_found: OnFound) -> None:
        self._found = found
        self._on_found = on_found
        self._left = 1  # until all have been asked for: some are answered before

    def part(self, n: int) -> "Part":
        """Return what takes the answer to one id; to be called before it is asked for."""
        if self._left:
            self._left += 1
        return Part(self, n)

    def all_asked(self) -> None:
        """Note that there will be no other part."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._on_found(self._found)

    def take(self, n: int, answer: Found | LookupFault) -> None:
        """Take the answer to one id."""
        if not isinstance(answer, LookupFault):
            self._found[n] = answer[0]
            self.all_asked()
        elif self._left:
            self._left = 0
            self._on_found(answer)


class Part:
    """The place of one id among those of its bid."""

    __slots__ = ("_gather", "_n")

    def __init__(self, gather: Gather, n: int) -> None:
        self._gather = gather
        self._n = n

    def __call__(self, answer: Found | LookupFault) -> None:
        """Take what came; an `OnFound`."""
        self._gather.take(self._n, answer)
