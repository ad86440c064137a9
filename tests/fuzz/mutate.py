"""
Inputs of inputs: changes of bytes, and changes that leave a form whole.

All chance comes from one `Random`, so that a seed and a number name an input. Changes that
know a form are in `forms`, of which a target names those of its own.
"""

import re
from collections.abc import Callable, Sequence
from random import Random

from tests.fuzz.target import Mutation

NUMBERS = (0, 1, 2, 3, 7, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4095, 32767, 65535)
LARGE = (1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)
_TEXTS = (
    b"0", b"-0", b"-1", b"1", b"2", b"9", b"65535", b"65536", b"4294967296", b"1e2", b"1E400",
    b"0.1", b"9007199254740993", b"1" * 400, b"99999999999999999999",
)  # fmt: skip
_ODD = (
    b"\0", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", b"\xed\xa0\x80",
    b"\r", b"\n", b"\r\n", b"\t", b" ", b"\x0b", b"\x85", "\u2028".encode(), "é".encode(),
    b'"', b"'", b"\\", b"/", b"..", b"%00", b"\\u0000", b"\\ud83d",
)  # fmt: skip
_DIGITS = re.compile(rb"[0-9]+")


class Mutator:
    """
    Changes inputs.

    Args:
        rng: All chance.
        other: Gives some other input.
        mutations: Those that know the form.
        tokens: Bytes that mean something.
        max_bytes: Where an input is cut.
    """

    def __init__(
        self,
        rng: Random,
        other: Callable[[], bytes],
        mutations: Sequence[Mutation],
        tokens: Sequence[bytes],
        max_bytes: int,
    ) -> None:
        self._rng = rng
        self._other = other
        self._formal = tuple(mutations)
        self._tokens = (*tokens, *tokens, *_ODD) if tokens else _ODD
        self._max_bytes = max_bytes
        self._plain = (
            self._flip, self._set, self._number, self._digits, self._insert, self._insert,
            self._overwrite, self._delete, self._delete, self._repeat, self._move, self._splice,
            self._cut,
        )  # fmt: skip

    def mutated(self, data: bytes) -> bytes:
        """Return another input, by one change or by some."""
        rng = self._rng
        for _ in range(1 << rng.choice((0, 0, 0, 1, 1, 2, 3))):
            if self._formal and rng.random() < 0.5:
                data = rng.choice(self._formal)(data, rng, self._other)
            else:
                data = rng.choice(self._plain)(data)
            data = data[: self._max_bytes]
        return data

    def _at(self, data: bytes) -> int:
        return self._rng.randrange(len(data) + 1)

    def _range(self, data: bytes) -> tuple[int, int]:
        rng = self._rng
        at = rng.randrange(len(data) + 1)
        longest = len(data) - at
        return at, at + min(longest, rng.choice((1, 1, 2, 3, 4, 8, 16, 64, longest)))

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return b"\0"
        at = self._rng.randrange(len(data))
        return data[:at] + bytes((data[at] ^ 1 << self._rng.randrange(8),)) + data[at + 1 :]

    def _set(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + bytes((self._rng.randrange(256),)) + data[at + 1 :]

    def _number(self, data: bytes) -> bytes:
        rng = self._rng
        width = rng.choice((1, 2, 4, 4, 8))
        value = rng.choice((*NUMBERS, *LARGE, len(data), rng.randrange(256)))
        value = -value if rng.random() < 0.2 else value
        written = (value & (1 << 8 * width) - 1).to_bytes(width, rng.choice(("big", "little")))
        at = self._at(data)
        return data[:at] + written + data[at + width :]

    def _digits(self, data: bytes) -> bytes:
        found = list(_DIGITS.finditer(data[:4096]))
        if not found:
            return self._set(data)
        run = self._rng.choice(found)
        return data[: run.start()] + self._rng.choice(_TEXTS) + data[run.end() :]

    def _insert(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + self._rng.choice(self._tokens) + data[at:]

    def _overwrite(self, data: bytes) -> bytes:
        at, token = self._at(data), self._rng.choice(self._tokens)
        return data[:at] + token + data[at + len(token) :]

    def _delete(self, data: bytes) -> bytes:
        at, end = self._range(data)
        return data[:at] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        at, end = self._range(data)
        times = self._rng.choice((1, 1, 2, 3, 16, 100, 1000))
        return (
            data[:end]
            + data[at:end] * min(times, 1 + self._max_bytes // (end - at or 1))
            + (data[end:])
        )

    def _move(self, data: bytes) -> bytes:
        at, end = self._range(data)
        moved, left = data[at:end], data[:at] + data[end:]
        to = self._at(left)
        return left[:to] + moved + left[to:]

    def _splice(self, data: bytes) -> bytes:
        other = self._other()
        at, (start, end) = self._at(data), self._range(other)
        return data[:at] + other[start:end] + data[at if self._rng.random() < 0.5 else end :]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._at(data)]
