"""
How every process connects to the store, except the bid path's lookup.

Records and fields are bytes, and a hanging store is an error within seconds.

    redis://[user:password@]host[:port][/db]                      one server
    unix:///path                                                  one server
    redis+cluster://[user:password@]host[:port][,host[:port]...]  some nodes of a Cluster
    redis+sentinel://[user:password@]host[:port][,...]/SERVICE[?db=N]

`rediss` for `redis` is TLS; redis-py defines the options after `?`, besides a Sentinel's
`sentinel_username` and `sentinel_password`.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from segments.store.error_code import note_command
from segments.store.reader import StoreUnusable
from segments.store.servers.at_work import AtWork
from segments.store.servers.cancellation import CancellableRetry
from segments.store.servers.cluster_client import Cluster
from segments.store.servers.sentinel import Sentinels

_CONNECT_TIMEOUT_S = 2.0
_REPLY_TIMEOUT_S = 10.0
"""Longer than a slice of merges on a store busy forking."""

_NODE_REPLY_TIMEOUT_S = 3.0
"""For nodes among several, which are replaced within seconds."""

_RETRIES = 2
_FORMS = (
    "redis://[user:password@]host[:port][/db], rediss://... with TLS, unix:///path,"
    " redis+cluster://host[:port][,host[:port]...], or redis+sentinel://host[:port][,...]/SERVICE"
)
_SEVERAL = re.compile(
    r"(?P<tls>rediss?)\+(?P<kind>cluster|sentinel)://"
    r"(?P<user>[^/?#]*@)?(?P<hosts>[^/?#@]+)(?:/(?P<path>[^?#]*))?(?P<query>\?[^#]*)?"
)
_SENTINEL_PORT = 26379
_SENTINELS_OWN = "sentinel_"


class Several(NamedTuple):
    """A parsed URL of a Cluster or of Sentinels."""

    kind: str
    addresses: tuple[tuple[str, int], ...]
    service: str
    options: Mapping[str, Any]  # of a connection, in redis-py's names
    is_tls: bool

    @property
    def is_cluster(self) -> bool:
        """Whether this is a Cluster; otherwise Sentinels."""
        return self.kind == "cluster"


def connect(url: str, **options: Any) -> Redis:
    """
    Return a client of the store, which connects on first use; `options` override ours.

    A Cluster's is no `Redis`, but has our methods; differences: `segments.store.servers.masters`.

    Raises:
        StoreUnusable: `url` has none of the forms; not quoted, for its password.
    """
    # A lost connection is retried: all writes are idempotent.
    defaults: dict[str, Any] = {
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_timeout": _REPLY_TIMEOUT_S,
        "retry": CancellableRetry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), _RETRIES),
        "health_check_interval": 30,
        "protocol": 2,
    }
    several = several_of(url)
    if several is not None:
        defaults["socket_timeout"] = _NODE_REPLY_TIMEOUT_S
        merged = {**defaults, **several.options, **options, "decode_responses": False}
        return _sentinel(several, merged) if several.service else _cluster(several, merged)
    try:
        client = _OneServer.from_url(url, **{**defaults, **options}, decode_responses=False)
    except ValueError:
        client = None
    if client is None:  # here, so that the parser's error with the URL is not chained
        raise StoreUnusable(f"SEGMENTS_REDIS_URL is not a URL of a store: {_FORMS}")
    return client


def several_of(url: str) -> Several | None:
    """
    Parse a URL of a Cluster or of Sentinels; `None` for any other.

    Raises:
        StoreUnusable: The URL is of this kind, and malformed.
    """
    if "+" not in url.partition("://")[0]:
        return None
    found = _SEVERAL.fullmatch(url)
    read: Several | None = None
    if found is not None:
        try:
            read = _read(found)
        except ValueError:
            read = None
    if read is None or (read.kind == "sentinel") != bool(read.service):
        raise StoreUnusable(f"SEGMENTS_REDIS_URL is not a URL of a store: {_FORMS}")
    return read


def _read(found: re.Match[str]) -> Several:
    kind, hosts = found["kind"], found["hosts"].split(",")
    addresses: list[tuple[str, int]] = []
    options: dict[str, Any] = {}
    for host in hosts:
        plain = f"{found['tls']}://{found['user'] or ''}{host}{found['query'] or ''}"
        options = dict(parse_url(plain))
        port = options.pop("port", _SENTINEL_PORT if kind == "sentinel" else 6379)
        addresses.append((str(options.pop("host")), int(port)))
    is_tls = options.pop("connection_class", None) is SSLConnection
    return Several(kind, tuple(addresses), found["path"] or "", options, is_tls)


def _cluster(several: Several, options: Mapping[str, Any]) -> Redis:
    nodes = [ClusterNode(host, port) for host, port in several.addresses]
    client = Cluster(
        startup_nodes=nodes,
        ssl=several.is_tls,
        # A slot without a master must not affect the others.
        require_full_coverage=False,
        **options,
    )
    return cast("Redis", client)  # see `connect`


def _sentinel(several: Several, options: Mapping[str, Any]) -> Redis:
    own = {
        name.removeprefix(_SENTINELS_OWN): value
        for name, value in options.items()
        if name.startswith(_SENTINELS_OWN)
    }
    theirs = {name: value for name, value in options.items() if not name.startswith(_SENTINELS_OWN)}
    if several.is_tls:
        own["ssl"] = theirs["ssl"] = True
    tls = {name: value for name, value in theirs.items() if name.startswith("ssl_")}
    limits = {
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_timeout": _CONNECT_TIMEOUT_S,
        "protocol": 2,
    }
    sentinel = Sentinels(  # type: ignore[no-untyped-call] # redis-py
        several.addresses, sentinel_kwargs={**limits, **tls, **own}, **theirs
    )
    return sentinel.master_for(  # type: ignore[no-any-return] # redis-py
        several.service, redis_class=_OfSentinel, connection_pool_class=_MastersConnections
    )


class _MastersConnections(SentinelConnectionPool):
    """
    Connections to the current master only.

    After a failover redis-py's pool closes idle connections, but takes back those in use, on which
    the old master may still answer.
    """

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Reconnect if the connection leads to a former master."""
        if (
            isinstance(connection, SentinelManagedConnection)
            and connection.is_connected
            and (connection.host, connection.port) != self.master_address
        ):
            await connection.disconnect()
        await super().ensure_connection(connection)


class _OneServer(AtWork, Redis):  # type: ignore[misc] # redis-py contradicts itself
    """A client whose errors name the command."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command, and note its name on an error."""
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call] # redis-py
        except RedisError as error:
            note_command(error, args[0])
            raise

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the client, and end its background work."""
        await self.end_work()
        await super().aclose(close_connection_pool)


class _OfSentinel(_OneServer):
    """Also closes its connections to the Sentinels."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        sentinel = sentinel_of(self)
        if sentinel is not None:
            await sentinel.aclose()


def sentinel_of(redis: Redis) -> Sentinel | None:
    """Return the Sentinels that a client asks for its master, if any."""
    pool = redis.connection_pool
    return pool.sentinel_manager if isinstance(pool, SentinelConnectionPool) else None
