"""
Inputs through a target, by the thousand: which come, what is kept of them, what is a fault.

    corpus, seeds     each as it is
    then              one of the inputs that are kept, changed; kept itself if it is news

News is an ending that was not seen before, of an input of that size, and of every
`TRACED_EACH`th input, later `LATER_TRACED_EACH`th, where the run is guided, also a step in our
code. Nothing here depends on the time or on the machine: the same seed is the same run, of the
same code.

Beside the target's own laws an input may not take longer than `slowest_ms`, and at the end
the process holds no more descriptors, and not noticeably more memory, than after its first inputs.

atheris was tried and discarded: it ends the process that it runs in, sees nothing of what
mypyc has compiled, and has wheels for some versions of Python only.
"""

import base64
import ctypes
import gc
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from zlib import crc32

from tests.fuzz.corpus import corpus_of
from tests.fuzz.coverage_feedback import Coverage
from tests.fuzz.mutate import Mutator
from tests.fuzz.shrink import shrunk
from tests.fuzz.target import Check, Target

TRACED_EACH = 4
LATER_TRACED_EACH = 32
_LATER = 50_000
"""Inputs, after which new steps are rare, and a traced one costs ten times another."""
MAX_KEPT = 2_048
_WARM_SHARE = 0.3
"""Of the inputs: until then caches fill, and what is kept grows."""
MAX_GROWTH_BYTES = 24 << 20
_TRIES_TO_SHRINK = 3_000
_TIMES_MEASURED = 5
_PAGE_BYTES = resource.getpagesize()


class Fault(AssertionError):
    """An input broke a law; the message says how to see it again."""


@dataclass
class Report:
    """What a run came to."""

    inputs: int = 0
    cpu_s: float = 0.0
    slowest_ms: float = 0.0
    growth_bytes: int = 0
    steps: int = 0
    endings: Counter[Hashable] = field(default_factory=Counter)
    news: list[bytes] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.inputs} inputs, {self.cpu_s:.1f} s of CPU, {len(self.endings)} endings, "
            f"{self.steps} steps of code, {len(self.news)} kept, slowest {self.slowest_ms:.1f} ms, "
            f"{self.growth_bytes >> 10} KiB more at the end"
        )


def fuzz(target: Target, inputs: int, *, seed: int = 1, is_guided: bool = False) -> Report:
    """
    Give a target so many inputs.

    Args:
        target: The reader.
        inputs: How many, the corpus included.
        seed: Of all chance.
        is_guided: Look at the steps in our code as well; some inputs take ten times as long.

    Raises:
        Fault: A law does not hold; the input was made as small as it can be found.
    """
    began_s = time.process_time()
    with target.checking() as check:
        run = _Run(target, check, seed, is_guided)
        run.run(inputs)
    run.report.cpu_s = time.process_time() - began_s
    return run.report


def replay(target: Target, data: bytes) -> Hashable:
    """Give a target one input, and return the ending."""
    with target.checking() as check:
        ending = check(data)
    if target.oracle is not None:
        target.oracle(data)
    return ending


class _Run:
    def __init__(self, target: Target, check: Check, seed: int, is_guided: bool) -> None:
        self.report = Report()
        self._target = target
        self._check = check
        self._rng = Random(f"{target.name} {seed}")
        self._coverage = Coverage(target.watched) if is_guided else None
        self._kept: list[bytes] = []
        self._sizes: set[tuple[Hashable, int]] = set()
        self._mutator = Mutator(
            self._rng, self._one, target.mutations, target.tokens, target.max_bytes
        )

    def run(self, inputs: int) -> None:
        for data in dict.fromkeys((*corpus_of(self._target), *self._target.seeds())):
            self._give(data, is_first=True)
        warm = max(int(inputs * _WARM_SHARE), self.report.inputs)
        while self.report.inputs < warm:
            self._give(self._mutator.mutated(self._one()))
        bytes_then, files_then = _held()
        while self.report.inputs < inputs:
            self._give(self._mutator.mutated(self._one()))
        bytes_now, files_now = _held()
        report = self.report
        report.growth_bytes = bytes_now - bytes_then
        report.steps = len(self._coverage.seen) if self._coverage is not None else 0
        if files_now > files_then:
            raise Fault(f"{self._target.name}: {files_then} descriptors, then {files_now}")
        if report.growth_bytes > MAX_GROWTH_BYTES:
            raise Fault(f"{self._target.name}: {report.growth_bytes >> 20} MiB more at the end")

    def _one(self) -> bytes:
        kept, rng = self._kept, self._rng
        # The newest lead on; of all others each has its turn.
        first = max(0, len(kept) - 64) if rng.random() < 0.3 else 0
        return kept[rng.randrange(first, len(kept))] if kept else b""

    def _give(self, data: bytes, *, is_first: bool = False) -> None:
        report = self.report
        report.inputs += 1
        began_ns = time.thread_time_ns()
        try:
            ending = self._check(data)
        except Exception as error:
            raise self._fault(data, error, self._check) from error
        took_ms = (time.thread_time_ns() - began_ns) / 1e6
        if took_ms > report.slowest_ms:
            self._judge(data, took_ms)
        self._ask_oracle(data)
        report.endings[ending] += 1
        size = (ending, len(data).bit_length())
        is_news = size not in self._sizes
        self._sizes.add(size)
        traced_each = TRACED_EACH if report.inputs < _LATER else LATER_TRACED_EACH
        if self._coverage is not None and (is_first or is_news or report.inputs % traced_each == 0):
            is_news |= self._coverage.are_new(self._coverage.steps_of(lambda: self._traced(data)))
        if is_first or is_news:
            self._keep(data, is_first=is_first)

    def _traced(self, data: bytes) -> None:
        """Check once more, and of a compiled module its twin, whatever the bytes."""
        try:
            self._check(data)
        except Exception as error:
            raise self._fault(data, error, self._check) from error

    def _ask_oracle(self, data: bytes) -> None:
        oracle = self._target.oracle
        # By the input, so that a replay asks the same.
        if oracle is None or crc32(data) % self._target.oracle_each:
            return
        try:
            oracle(data)
        except Exception as error:
            raise self._fault(data, error, oracle) from error

    def _keep(self, data: bytes, *, is_first: bool) -> None:
        if not is_first:
            self.report.news.append(data)
            del self.report.news[:-MAX_KEPT]
        if len(self._kept) < MAX_KEPT:
            self._kept.append(data)
        else:
            self._kept[self._rng.randrange(MAX_KEPT)] = data

    def _judge(self, data: bytes, took_ms: float) -> None:
        """Note the slowest input; one that is too slow, and again each time, is a fault."""
        limit_ms = self._target.slowest_ms
        times = 0
        while took_ms > limit_ms and times < _TIMES_MEASURED:
            began_ns = time.thread_time_ns()
            self._check(data)
            took_ms = min(took_ms, (time.thread_time_ns() - began_ns) / 1e6)
            times += 1
        self.report.slowest_ms = max(self.report.slowest_ms, took_ms)
        if took_ms > limit_ms:
            raise self._fault(
                data, Fault(f"{took_ms:.0f} ms, and the most is {limit_ms:.0f}"), self._check
            )

    def _fault(self, data: bytes, error: Exception, check: Callable[[bytes], object]) -> Fault:
        is_slow = isinstance(error, Fault)
        smallest = data if is_slow else shrunk(data, _is_same(error, check), _TRIES_TO_SHRINK)
        written = base64.b64encode(smallest).decode()
        return Fault(
            f"{self._target.name}: {type(error).__name__}: {error}\n"
            f"input {self.report.inputs}, of {len(smallest)} bytes; to see it again:\n"
            f"    .venv/bin/python -m tests.fuzz {self._target.name} --replay {written}"
        )


def _is_same(error: Exception, check: Callable[[bytes], object]) -> Callable[[bytes], bool]:
    due = _place(error)

    def is_same(data: bytes) -> bool:
        try:
            check(data)
        except Exception as other:  # noqa: BLE001 - any may be it
            return _place(other) == due
        return False

    return is_same


def _place(error: BaseException) -> tuple[object, ...]:
    """Return the kind of an error, and where it was raised."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = (last.tb_frame.f_code.co_filename, last.tb_lineno) if last is not None else ()
    return (type(error), *where)


def _held() -> tuple[int, int]:
    """Return the bytes of memory and the number of descriptors of this process."""
    gc.collect()
    # Freed memory between blocks in use is no leak: 39 MiB of it after a million JSON files.
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * _PAGE_BYTES, len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names
