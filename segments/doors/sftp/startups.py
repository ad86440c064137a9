"""
Connections that have not logged in: how many there may be, in all and from one address.

As MaxStartups and PerSourceMaxStartups of sshd_config(5). sshd turns the newcomer away; here
the one that has waited longest goes, so connections that say nothing shut nobody out, not
even a partner behind the same address: a client that means it logs in within a second.
"""

from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar

_IPV6_PREFIX_BITS = 64

T = TypeVar("T")


def source_of(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or the 64 first bits of an IPv6 one."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{int(found) >> _IPV6_PREFIX_BITS:016x}"


class Startups(Generic[T]):
    """The connections that have not logged in, the oldest first."""

    def __init__(self, limit: int, limit_per_source: int) -> None:
        self._limit = limit
        self._limit_per_source = limit_per_source
        self._connection_to_source: dict[T, str] = {}

    def begin(self, connection: T, source: str) -> list[T]:
        """Note a connection; return those that have to go for it."""
        gone = []
        of_source = [c for c, s in self._connection_to_source.items() if s == source]
        if len(of_source) >= self._limit_per_source:
            gone.append(of_source[0])
        elif len(self._connection_to_source) >= self._limit:
            gone.append(self._oldest_of_the_busiest())
        for each in gone:
            self.end(each)
        self._connection_to_source[connection] = source
        return gone

    def end(self, connection: T) -> None:
        """Forget a connection: it has logged in, or is gone."""
        self._connection_to_source.pop(connection, None)

    def __contains__(self, connection: T) -> bool:
        return connection in self._connection_to_source

    def _oldest_of_the_busiest(self) -> T:
        """Return the oldest connection of the source that has most of them."""
        source_to_connections: dict[str, list[T]] = {}
        for connection, source in self._connection_to_source.items():
            source_to_connections.setdefault(source, []).append(connection)
        return max(source_to_connections.values(), key=len)[0]
