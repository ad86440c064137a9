"""
A worker's unfinished requests: one budget over all connections.

Beyond the budget, the oldest request is refused: honest clients finish within milliseconds.
Requests in one piece are not counted.
"""

from mypy_extensions import trait


@trait
class Part:
    """A request of which the rest has not arrived."""

    def give_up(self) -> None:
        """Refuse the request to free memory for others, and `forget` it."""
        raise NotImplementedError


class Unfinished:
    """
    The unfinished requests of all connections of a worker.

    Args:
        max_bytes: The limit of their total size.
    """

    __slots__ = ("_max_bytes", "_parts", "held_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: dict[Part, int] = {}  # the oldest first
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._parts)

    def note(self, part: Part, held_bytes: int) -> None:
        """Record a request's size; refuse the oldest beyond the budget."""
        self.held_bytes += held_bytes - self._parts.get(part, 0)
        self._parts[part] = held_bytes
        while self.held_bytes > self._max_bytes:
            next(iter(self._parts)).give_up()

    def forget(self, part: Part) -> None:
        """Remove a request."""
        self.held_bytes -= self._parts.pop(part, 0)
