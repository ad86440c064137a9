"""
How every process but the bid path's lookup connects to the store.

One function, so that time limits and binary safety are decided once: records
and fields are bytes, and a store that hangs is an error within seconds, not a
process that hangs with it.

    redis://[user:password@]host[:port][/db]                      one server
    unix:///path                                                  one server
    redis+cluster://[user:password@]host[:port][,host[:port]...]  some nodes of a Cluster
    redis+sentinel://[user:password@]host[:port][,...]/SERVICE[?db=N]

`rediss` for `redis` is TLS; what else may stand behind the `?` is redis-py's. A
Sentinel that wants a password of its own finds it there, as `sentinel_username`
and `sentinel_password`.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import ExponentialWithJitterBackoff

from segments.store.reader import StoreUnusable
from segments.store.servers.cluster_client import Cluster
from segments.store.servers.sentinel import Sentinels

_CONNECT_TIMEOUT_S = 2.0
_REPLY_TIMEOUT_S = 10.0
"""Longer than the slowest command, a slice of merges, on a store that is busy forking."""

_NODE_REPLY_TIMEOUT_S = 3.0
"""Of one node of several, whose place another one takes within seconds."""

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
    """A URL of a store that is more than one server."""

    kind: str
    addresses: tuple[tuple[str, int], ...]
    service: str
    options: Mapping[str, Any]  # of a connection, as redis-py names them
    is_tls: bool

    @property
    def is_cluster(self) -> bool:
        """Whether they share the slots of a Cluster; else they are Sentinels."""
        return self.kind == "cluster"


def connect(url: str, **options: Any) -> Redis:
    """
    Make a client of the store; it connects when it is first used.

    The client of a Cluster is no `Redis`, but has the methods that are used of
    one. Where it differs, see `segments.store.servers.masters`.

    Args:
        url: One of the module's forms.
        options: Passed on to redis-py, before the defaults here.

    Raises:
        StoreUnusable: `url` is none of these. It is not quoted, for it may
            hold a password.
    """
    # Every command of ours may be repeated: merges and opt-outs change nothing
    # the second time. So a lost connection is tried again before it is an error.
    defaults: dict[str, Any] = {
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_timeout": _REPLY_TIMEOUT_S,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), _RETRIES),
        "health_check_interval": 30,
        "protocol": 2,
    }
    several = several_of(url)
    if several is not None:
        defaults["socket_timeout"] = _NODE_REPLY_TIMEOUT_S
        merged = {**defaults, **several.options, **options, "decode_responses": False}
        return _sentinel(several, merged) if several.service else _cluster(several, merged)
    try:
        client = Redis.from_url(url, **{**defaults, **options}, decode_responses=False)
    except ValueError:
        client = None
    if client is None:  # raised here, so that the parser's words of the URL don't come along
        raise StoreUnusable(f"SEGMENTS_REDIS_URL is not a URL of a store: {_FORMS}")
    return client


def several_of(url: str) -> Several | None:
    """
    Read a URL of a Cluster or of Sentinels; `None` for any other.

    Raises:
        StoreUnusable: It is one of the two, and wrong.
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
        # A slot without a master is that slot's trouble alone.
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
    Connections to the master alone, also of those that come back after it was replaced.

    redis-py's pool hangs up on idle connections when the Sentinels name another master, and
    takes back one that was in use then. The old master may answer it for as long as it has
    not heard of its heir.
    """

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect anew if it leads to a former master."""
        if (
            isinstance(connection, SentinelManagedConnection)
            and connection.is_connected
            and (connection.host, connection.port) != self.master_address
        ):
            await connection.disconnect()
        await super().ensure_connection(connection)


class _OfSentinel(Redis):
    """A client that hangs up on the Sentinels too when it is closed."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        sentinel = sentinel_of(self)
        if sentinel is not None:
            await sentinel.aclose()


def sentinel_of(redis: Redis) -> Sentinel | None:
    """Return the Sentinels that a client asks for its master, if it does."""
    pool = redis.connection_pool
    return pool.sentinel_manager if isinstance(pool, SentinelConnectionPool) else None
