"""
Limits connections of unknown clients, in all and by address.

As MaxStartups and PerSourceMaxStartups of sshd_config(5). sshd turns the newcomer away; here the
longest waiting connection is ended, so silent connections shut no client out, not even behind the
same address: a genuine client identifies itself within a second.
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class Startups(Generic[T]):
    """The connections of unknown clients, the oldest first."""

    def __init__(self, limit: int, limit_per_source: int) -> None:
        self._limit = limit
        self._limit_per_source = limit_per_source
        self._connection_to_source: dict[T, str] = {}
        self._source_to_connections: dict[str, dict[T, None]] = {}

    def begin(self, connection: T, source: str, *, is_shared: bool = False) -> list[T]:
        """
        Add a connection; return the connections to end for it.

        `source` is of the client's address; `is_shared`: it is a proxy with many clients.
        """
        gone = []
        of_source = self._source_to_connections.get(source, {})
        if len(of_source) >= self._limit_per_source and not is_shared:
            gone.append(next(iter(of_source)))
        elif len(self._connection_to_source) >= self._limit:
            gone.append(self._oldest_of_the_busiest())
        for each in gone:
            self.end(each)
        self._connection_to_source[connection] = source
        self._source_to_connections.setdefault(source, {})[connection] = None
        return gone

    def end(self, connection: T) -> None:
        """Remove a connection: its client is known, or has gone."""
        source = self._connection_to_source.pop(connection, None)
        if source is not None:
            of_source = self._source_to_connections[source]
            del of_source[connection]
            if not of_source:
                del self._source_to_connections[source]

    def __contains__(self, connection: T) -> bool:
        return connection in self._connection_to_source

    def _oldest_of_the_busiest(self) -> T:
        busiest: dict[T, None] = max(self._source_to_connections.values(), key=len)
        return next(iter(busiest))
