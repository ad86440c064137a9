"""
The commands that processes other than the bid listener send to the store.

Written by `make docs` from the code: docs/make/store_commands.py.
"""

from typing import Final

WRITERS: Final = (
    "BITOP",
    "DBSIZE",
    "DEL",
    "EVAL",
    "EVALSHA",
    "EXEC",
    "EXISTS",
    "EXPIREAT",
    "GET",
    "GETBIT",
    "HDEL",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HSET",
    "HSETNX",
    "HVALS",
    "INCR",
    "INFO",
    "MULTI",
    "OBJECT ENCODING",
    "PING",
    "PUBLISH",
    "RESTORE",
    "SCAN",
    "SCRIPT LOAD",
    "SELECT",
    "SET",
    "SETBIT",
    "SETRANGE",
    "SUBSCRIBE",
    "TIME",
    "UNLINK",
)
"""Of any store."""

WRITERS_IN_CLUSTER: Final = (
    "ASKING",
    "CLUSTER INFO",
    "CLUSTER SHARDS",
    "CLUSTER SLOTS",
    "COMMAND",
    "WAIT",
)
"""Of a Redis Cluster as well."""
