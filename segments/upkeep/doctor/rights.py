"""
Checks the rights of our user at the store, without any effect there.

A server checks a user's rights to a command when it queues it in a transaction, which the end of
the connection discards. So one look names every missing command.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from segments.store import keys
from segments.store.command_names import WRITERS, WRITERS_IN_CLUSTER
from segments.store.error_code import note_command, refusal_of
from segments.store.servers.masters import Server, masters
from segments.upkeep.doctor.findings import Finding, Grade

_KEY: Final = object()
"""Stands for a key of the asked server."""

ARGUMENTS: Final[Mapping[str, tuple[object, ...]]] = {
    "BITOP": ("AND", _KEY, _KEY),
    "DEL": (_KEY,),
    "EVAL": ("return 0", 0),
    "EVALSHA": ("0" * 40, 0),
    "EXISTS": (_KEY,),
    "EXPIREAT": (_KEY, 1),
    "GET": (_KEY,),
    "GETBIT": (_KEY, 0),
    "HDEL": (_KEY, 0),
    "HEXISTS": (_KEY, 0),
    "HGET": (_KEY, 0),
    "HGETALL": (_KEY,),
    "HKEYS": (_KEY,),
    "HLEN": (_KEY,),
    "HMGET": (_KEY, 0),
    "HSET": (_KEY, 0, 0),
    "HSETNX": (_KEY, 0, 0),
    "HVALS": (_KEY,),
    "INCR": (_KEY,),
    "OBJECT ENCODING": (_KEY,),
    "PUBLISH": (keys.CHANGED, 0),
    "RESTORE": (_KEY, 0, ""),
    "SCAN": (0,),
    "SCRIPT LOAD": ("return 0",),
    "SELECT": (0,),
    "SET": (_KEY, 0),
    "SETBIT": (_KEY, 0, 0),
    "SETRANGE": (_KEY, 0, ""),
    "SUBSCRIBE": (keys.CHANGED,),
    "UNLINK": (_KEY,),
    "WAIT": (0, 0),
}
"""As many as each command needs; commands that need none are not named."""

_FORBIDDEN: Final = ("NOPERM", "EXECABORT")
"""The second is the answer to EXEC, with the first behind it."""


async def look_at_rights(redis: Redis) -> Finding:
    """
    Name every command that our user may not send.

    Raises:
        redis.exceptions.RedisError: A server can't be asked.
    """
    missing: set[str] = set()
    for server in await masters(redis):
        try:
            async with _connection_to(server) as connection:
                missing.update(await _forbidden(connection, server))
        except RedisError as error:
            note_command(error, "MULTI", "" if server.node is None else server.node.name)
            raise
    if not missing:
        return Finding(Grade.GOOD, "store: its user may send all our commands")
    rules = " ".join(f"+{name.lower().replace(' ', '|')}" for name in sorted(missing))
    return Finding(
        Grade.BAD,
        f"store: NOPERM to {', '.join(sorted(missing))}; give its user {rules} and the keys"
        " seg:1:* (ACL SETUSER, deploy/redis.acl)",
    )


async def _forbidden(connection: AbstractConnection, server: Server) -> list[str]:
    """Return the commands that the user of a connection may not send."""
    # Outside of a transaction, where EXEC does nothing.
    found = [name for name in ("EXEC", "MULTI") if await _is_forbidden(name, connection)]
    if "MULTI" in found:
        return found  # the commands below would be carried out
    names = (*WRITERS, *(WRITERS_IN_CLUSTER if server.node is not None else ()))
    key = server.key(keys.PROBE)
    return found + [
        name
        for name in names
        if name not in ("EXEC", "MULTI")
        and await _is_forbidden(name, connection, _filled(name, key))
    ]


def _filled(name: str, key: bytes) -> Sequence[object]:
    return [key if each is _KEY else each for each in ARGUMENTS.get(name, ())]


async def _is_forbidden(
    name: str, connection: AbstractConnection, arguments: Sequence[object] = ()
) -> bool:
    await connection.send_command(*name.split(), *arguments)
    try:
        await connection.read_response()
    except ResponseError as error:
        # Other errors come after the check of rights, such as MOVED for a slot elsewhere.
        refusal = refusal_of(error)
        return refusal is not None and refusal.code in _FORBIDDEN
    return False


@asynccontextmanager
async def _connection_to(server: Server) -> AsyncIterator[AbstractConnection]:
    """Give a connection, and close it: a transaction is open in it."""
    connection: Any  # redis-py types the two differently, and in part not at all
    if server.node is not None:
        connection = server.node.acquire_connection()
        await connection.connect()
    else:
        connection = await server.redis.connection_pool.get_connection()  # type: ignore[no-untyped-call] # redis-py
    try:
        yield connection
    finally:
        await connection.disconnect()
        if server.node is not None:
            server.node.release(connection)
        else:
            await server.redis.connection_pool.release(connection)
