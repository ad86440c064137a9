"""Whether the fuzzer finds what there is to find: readers with faults that are known."""

import base64
import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from mmap import mmap

import pytest

from tests.fuzz.drive import MAX_GROWTH_BYTES, Fault, fuzz
from tests.fuzz.target import Check, Target

_BUG = "a bug"


def _target(
    check: Check,
    *seeds: bytes,
    tokens: tuple[bytes, ...] = (),
    watched: tuple[str, ...] = (),
    slowest_ms: float = 50.0,
) -> Target:
    def checking() -> AbstractContextManager[Check]:
        @contextmanager
        def given() -> Iterator[Check]:
            yield check

        return given()

    return Target(
        "a planted fault",
        lambda: seeds,
        checking,
        tokens=tokens,
        watched=watched,
        slowest_ms=slowest_ms,
    )


def _stepwise(data: bytes) -> Hashable:
    # No change makes four letters at once; each that is right is a step further.
    if data[:1] == b"F":
        if data[1:2] == b"U":
            if data[2:3] == b"Z":
                if data[3:4] == b"Z":
                    raise ValueError(_BUG)
                return 1
            return 1
        return 1
    return 1


def test_coverage_leads_to_a_fault_that_chance_alone_does_not_find() -> None:
    target = _target(
        _stepwise, b"----", tokens=(b"F", b"U", b"Z"), watched=("tests/fuzz/test_drive.py",)
    )

    fuzz(target, 20_000)
    with pytest.raises(Fault, match=_BUG):
        fuzz(target, 20_000, is_guided=True)


def test_fault_is_told_by_the_smallest_input_and_the_command_to_see_it_again() -> None:
    def check(data: bytes) -> Hashable:
        assert b"x" not in data, _BUG
        return len(data) > 0

    with pytest.raises(Fault) as caught:
        fuzz(_target(check, b"a" * 300 + b"x" + b"b" * 300), 10)

    command = str(caught.value).splitlines()[-1]
    assert "-m tests.fuzz" in command
    assert base64.b64decode(command.split()[-1]) == b"x"


def test_same_seed_is_the_same_run() -> None:
    def given_by(seed: int) -> list[bytes]:
        given: list[bytes] = []
        fuzz(_target(given.append, b"one", b'{"two": [2]}'), 500, seed=seed)
        return given

    assert given_by(1) == given_by(1)
    assert given_by(1) != given_by(2)


def _leaks_memory(kept: list[mmap]) -> Callable[[bytes], Hashable]:
    def check(_: bytes) -> Hashable:
        # Pages of its own: memory that the tests before freed would hide what malloc takes of it.
        pages = mmap(-1, MAX_GROWTH_BYTES // 256)
        pages.write(b"x" * len(pages))
        kept.append(pages)
        return None

    return check


def _leaks_descriptors(_: list[mmap]) -> Callable[[bytes], Hashable]:
    return lambda data: os.dup(1) and None


@pytest.mark.parametrize(
    ("leaking", "said"),
    [(_leaks_memory, "MiB more"), (_leaks_descriptors, "descriptors")],
    ids=["memory", "descriptors"],
)
def test_reader_that_keeps_something_of_each_input_is_a_fault(
    leaking: Callable[[list[mmap]], Check], said: str
) -> None:
    kept: list[mmap] = []
    open_before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names

    try:
        with pytest.raises(Fault, match=said):
            fuzz(_target(leaking(kept), b"x"), 500)
    finally:
        for name in set(os.listdir("/proc/self/fd")) - open_before:  # noqa: PTH208
            if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}"):  # noqa: PTH110
                os.close(int(name))


def test_input_that_takes_too_long_each_time_is_a_fault() -> None:
    def check(data: bytes) -> Hashable:
        return sum(range(300_000 if data.startswith(b"slow") else 1)) > 0

    with pytest.raises(Fault, match="ms, and the most is"):
        fuzz(_target(check, b"quick", b"slow", slowest_ms=1.0), 50)
