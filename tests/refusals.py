"""
Every way in which a store goes on reading and does not write.

Each leaves the server running and answering HGET, so bids go on being answered from it;
`Engine.reset` takes back what is still in force at the end of a test.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import redis

from loadtest.soak.refusals import REFUSALS as OF_THE_SOAK
from loadtest.soak.refusals import Refusal
from segments.store.error_code import refusal_of
from tests.engines import Engine


@contextmanager
def _without_disk(engine: Engine) -> Iterator[None]:
    """Its last snapshot failed, and it was told to write nothing that it can't keep."""
    gone = Path(tempfile.mkdtemp(prefix="gone-"))
    engine.ask("CONFIG", "SET", "save", "3600 1")
    engine.ask("CONFIG", "SET", "dir", str(gone))
    shutil.rmtree(gone)
    engine.snapshot()
    try:
        yield
    finally:
        engine.ask("CONFIG", "SET", "dir", str(engine.dir))
        engine.ask("CONFIG", "SET", "save", "")
        engine.snapshot()


@contextmanager
def _told_to(refusal: Refusal, engine: Engine) -> Iterator[None]:
    engine.ask(*map(str, refusal.refuse))
    try:
        yield
    finally:
        engine.ask(*map(str, refusal.accept))


REFUSALS: Final[Mapping[str, Callable[[Engine], AbstractContextManager[None]]]] = {
    **{code: partial(_told_to, refusal) for code, refusal in OF_THE_SOAK.items()},
    "MISCONF": _without_disk,
}
"""By the code of the error that a write is answered with."""


def code_of_a_write(engine: Engine) -> str:
    """Return the first word of what a server says to a write; nothing if it takes it."""
    try:
        engine.ask("SET", "written", "1")
    except redis.ResponseError as error:
        refusal = refusal_of(error)
        return "" if refusal is None else refusal.code
    return ""
