"""
What the fuzzer needs to know of one reader of foreign bytes.

A check takes one input and tells how its reading ended: anything hashable, of which there
are few. A fault is whatever the check raises: a law that does not hold, or an exception that
the reader did not declare. An ending that was not seen before is worth keeping its input for.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from random import Random
from typing import NamedTuple

Check = Callable[[bytes], Hashable]
Mutation = Callable[[bytes, Random, Callable[[], bytes]], bytes]
"""Makes another input of one; the third argument gives some other input to take from."""


class Target(NamedTuple):
    """
    One reader.

    Attributes:
        name: As `python -m tests.fuzz` takes it.
        seeds: Makes inputs of every kind that the reader is for.
        checking: Gives the check, for as long as the context lasts.
        mutations: Ways to change an input that know its form, beside those of any bytes.
        tokens: Bytes that mean something to the reader.
        watched: Where its code is, as `coverage_feedback` takes it.
        max_bytes: Inputs are cut there.
        slowest_ms: No input takes longer, by processor time.
        oracle: Somebody else's opinion of an input, which need not be quick.
        oracle_each: It is asked of one input in so many.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    checking: Callable[[], AbstractContextManager[Check]]
    mutations: tuple[Mutation, ...] = ()
    tokens: tuple[bytes, ...] = ()
    watched: tuple[str, ...] = ()
    max_bytes: int = 8_192
    slowest_ms: float = 50.0
    oracle: Callable[[bytes], None] | None = None
    oracle_each: int = 1
