"""
How every process but the bid path's lookup connects to the store.

One function, so that time limits and binary safety are decided once: records
and fields are bytes, and a store that hangs is an error within seconds, not a
process that hangs with it.
"""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from segments.store.reader import StoreUnusable

_CONNECT_TIMEOUT_S = 2.0
_REPLY_TIMEOUT_S = 10.0
"""Longer than the slowest command, a slice of merges, on a store that is busy forking."""

_RETRIES = 2
_FORMS = "redis://[user:password@]host[:port][/db], rediss://... with TLS, or unix:///path"


def connect(url: str, **options: Any) -> Redis:
    """
    Make a client of the store; it connects when it is first used.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py reads them.
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
    try:
        client = Redis.from_url(url, **{**defaults, **options}, decode_responses=False)
    except ValueError:
        client = None
    if client is None:  # raised here, so that the parser's words of the URL don't come along
        raise StoreUnusable(f"SEGMENTS_REDIS_URL is not a URL of a store: {_FORMS}")
    return client
