"""
Every way in which a store goes on reading and does not write.

Each leaves the server running and answering HGET, so bids go on being answered from it;
`Engine.reset` takes back what is still in force at the end of a test.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import redis

from tests.engines import Engine

ANYTHING_MORE: Final = 1
"""A limit of memory that every write exceeds, in bytes."""


@contextmanager
def _full(engine: Engine) -> Iterator[None]:
    engine.ask("CONFIG", "SET", "maxmemory", ANYTHING_MORE)
    yield
    engine.ask("CONFIG", "SET", "maxmemory", 0)


@contextmanager
def _replica(engine: Engine) -> Iterator[None]:
    """As an old master is once it has heard of a failover; its new one can't be reached."""
    engine.ask("REPLICAOF", "127.0.0.1", "1")
    yield
    engine.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def _without_disk(engine: Engine) -> Iterator[None]:
    """Its last snapshot failed, and it was told to write nothing that it can't keep."""
    gone = Path(tempfile.mkdtemp(prefix="gone-"))
    engine.ask("CONFIG", "SET", "save", "3600 1")
    engine.ask("CONFIG", "SET", "dir", str(gone))
    shutil.rmtree(gone)
    engine.snapshot()
    yield
    engine.ask("CONFIG", "SET", "dir", str(engine.dir))
    engine.ask("CONFIG", "SET", "save", "")
    engine.snapshot()


@contextmanager
def _without_replicas(engine: Engine) -> Iterator[None]:
    engine.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    yield
    engine.ask("CONFIG", "SET", "min-replicas-to-write", 0)


@contextmanager
def _without_permission(engine: Engine) -> Iterator[None]:
    engine.ask("ACL", "SETUSER", "default", "-@write")
    yield
    engine.ask("ACL", "SETUSER", "default", "+@all")


REFUSALS: Final[Mapping[str, Callable[[Engine], AbstractContextManager[None]]]] = {
    "OOM": _full,
    "READONLY": _replica,
    "MISCONF": _without_disk,
    "NOREPLICAS": _without_replicas,
    "NOPERM": _without_permission,
}
"""By the code of the error that a write is answered with."""


def code_of_a_write(engine: Engine) -> str:
    """Return the first word of what a server says to a write; nothing if it takes it."""
    try:
        engine.ask("SET", "written", "1")
    except redis.ResponseError as error:
        # redis-py leaves the code out of what it has a class for.
        code = str(error).partition(" ")[0]
        return _CLASS_TO_CODE.get(type(error).__name__, code)
    return ""


_CLASS_TO_CODE = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "NoPermissionError": "NOPERM",
}
