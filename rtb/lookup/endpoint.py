"""
Connections from the lookup to the store, from the usual URL.

redis-py parses the URL and asks the Sentinels. The connections, with the link's own protocol, are
ours.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel

from rtb.lookup.caching_lookup import CachingLookup
from rtb.lookup.cluster.lookup import ClusterLookup
from rtb.lookup.link import Command, Link, LookupFault, unfit
from rtb.lookup.lookup import Dial, IsCurrent, Lookup, LookupOptions
from rtb.lookup.near_cache.lease import CacheLimits
from segments.store.servers.connection import Several, connect, sentinel_of, several_of
from segments.store.servers.topology import Address


class Endpoint(NamedTuple):
    """How to open a connection, and its first commands."""

    dial: Dial
    greeting: tuple[Command, ...]
    is_current: IsCurrent | None = None


def lookup_of(
    url: str, *, reads_replicas: bool = False, room: CacheLimits | None = None, **options: Any
) -> Lookup:
    """
    Make the lookup of a store.

    Args:
        url: As `segments.store.servers.connection.connect` takes it.
        reads_replicas: Read a Cluster's replicas, too.
        room: Of a near cache; `None`: no cache, as always with a Cluster.
        options: Fields of `rtb.lookup.lookup.LookupOptions`, except the greeting.

    Raises:
        segments.store.reader.StoreUnusable: `url` has none of these forms.
    """
    several = several_of(url)
    if several is not None and several.is_cluster:
        assert room is None, "the settings refuse a near cache of a Cluster"
        end = _end_of(several)
        return ClusterLookup(
            lambda address: _tcp(end, address),
            [Address(*each) for each in several.addresses],
            LookupOptions(_greeting(end), **options),
            is_tls=several.is_tls,
            reads_replicas=reads_replicas,
        )
    door = door_of(url)
    links = LookupOptions(door.greeting, **options)
    if room is not None:
        return CachingLookup(door.dial, links, room, door.is_current)
    return Lookup(door.dial, links, door.is_current)


def door_of(url: str) -> Endpoint:
    """
    Return the endpoint of a server named by the URL or by Sentinels.

    Raises:
        segments.store.reader.StoreUnusable: `url` is no URL of a store.
    """
    client = connect(url)
    end = client.connection_pool.make_connection()  # type: ignore[no-untyped-call] # redis-py
    sentinel = sentinel_of(client)
    if sentinel is not None:
        several = several_of(url)
        assert several is not None, "they are named by such a URL alone"
        guided = _Guided(end, sentinel, several.service)
        return Endpoint(guided.dial, _greeting(end), guided.is_current)
    is_unix = isinstance(end, UnixDomainSocketConnection)
    dial = _unix(end) if is_unix else _tcp(end, Address(end.host, int(end.port)))
    return Endpoint(dial, _greeting(end))


class _Guided:
    """Dials the master that the Sentinels name."""

    def __init__(self, end: Connection, sentinel: Sentinel, service: str) -> None:
        self._end = end
        self._sentinel = sentinel
        self._service = service
        self._dialed: Address | None = None

    async def dial(self, link: Callable[[], asyncio.Protocol]) -> None:
        try:
            address = await self._master()
        except MasterNotFoundError:
            raise ConnectionRefusedError("no Sentinel names a master") from None
        self._dialed = address
        await _tcp(self._end, address)(link)

    async def is_current(self, _: Link) -> bool:
        """Tell whether the dialed address is still the master; `Unfit` if unknown."""
        try:
            return await self._master() == self._dialed
        except MasterNotFoundError:
            raise unfit(LookupFault.UNUSABLE, "no Sentinel says whether it is the master") from None

    async def _master(self) -> Address:
        try:
            host, port = await self._sentinel.discover_master(self._service)
        finally:
            # An idle connection would never be closed.
            await self._sentinel.aclose()
        return Address(str(host), int(port))


def _end_of(several: Several) -> Connection:
    kind = SSLConnection if several.is_tls else Connection
    host, port = several.addresses[0]
    return kind(host=host, port=port, **several.options)


def _greeting(end: Connection) -> tuple[Command, ...]:
    greeting: list[Command] = []
    if end.password:
        user = (end.username.encode(),) if end.username else ()
        greeting.append((b"AUTH", *user, end.password.encode()))
    if end.db:
        greeting.append((b"SELECT", b"%d" % int(end.db)))
    return tuple(greeting)


def _unix(end: UnixDomainSocketConnection) -> Dial:
    async def dial(link: Callable[[], asyncio.Protocol]) -> None:
        await asyncio.get_running_loop().create_unix_connection(link, end.path)

    return dial


def _tcp(end: Connection, address: Address) -> Dial:
    async def dial(link: Callable[[], asyncio.Protocol]) -> None:
        # A failover may have moved the name.
        transport, _ = await asyncio.get_running_loop().create_connection(
            link,
            address.host,
            address.port,
            ssl=end.ssl_context.get() if isinstance(end, SSLConnection) else None,
            server_hostname=address.host if isinstance(end, SSLConnection) else None,
        )
        # asyncio sets this on plain TCP only.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    return dial
