"""
The source of a request, for limits: one mechanism for every door.

    a source       an IPv4 address, also in IPv6 form (::ffff:192.0.2.1), or the first 64 bits
                   of an IPv6 address: the owner of one address in a /64 has all of them
    behind proxies the address that the nearest trusted proxy names, and so on

A proxy appends its peer to `X-Forwarded-For`; earlier entries are the client's claim. So the list
is read from the right, past trusted proxies only. A malformed entry ends the walk: the client then
counts as the proxy that wrote it.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

Network = IPv4Network | IPv6Network

_IPV6_PREFIX_BITS = 64
_MAX_HOPS = 32
"""The longest chain of proxies to follow."""


def source_of(address: str) -> str:
    """Return an address's source; a malformed address is its own."""
    found = _found(address)
    if isinstance(found, IPv6Address):
        return f"{int(found) >> _IPV6_PREFIX_BITS:016x}"
    return address if found is None else str(found)


class Proxies(NamedTuple):
    """The trusted proxies."""

    networks: tuple[Network, ...] = ()

    def trusts(self, address: str) -> bool:
        """Tell whether an address is a trusted proxy's."""
        found = _found(address)
        return found is not None and any(found in network for network in self.networks)

    def client_of(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """
        Return the address of a request's client.

        `peer` has connected; `forwarded_for` are the values of `X-Forwarded-For`, in order.
        """
        client = peer
        if not self.trusts(peer):
            return client
        for place in ",".join(forwarded_for).split(",")[: -_MAX_HOPS - 1 : -1]:
            address = _address(place)
            if address is None:
                break
            client = address
            if not self.trusts(client):
                break
        return client


def _found(address: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, unwrapping IPv4 in IPv6 form; `None` if malformed."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def _address(place: str) -> str | None:
    place = place.strip()
    if place.startswith("["):
        place = place[1:].partition("]")[0]
    elif place.count(":") == 1:
        place = place.partition(":")[0]
    try:
        return str(ip_address(place))
    except ValueError:
        return None
