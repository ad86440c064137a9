"""
The same rows twice: as a partner's file, and as plain Redis commands.

    file        SHA-256 in hex, one a line, compressed                          by gzip
    commands    SADD seg:<SHA-256 in hex> <segment>, in the Redis protocol      for --pipe

A row is 32 seeded random bytes, like a SHA-256 without the cost of hashing. Rows are written in
blocks, against memory.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from isal import igzip

HASH_BYTES = 32

_BLOCK_ROWS = 64 << 10
_GZIP_LEVEL = 1  # of 0 to 3; hex digits of random bits shrink to half at any level
_KEY_PREFIX = b"seg:"


@dataclass(frozen=True)
class Rows:
    """Different hashes, reproducible by seed."""

    count: int
    seed: int = 1

    def write_file(self, path: Path) -> str:
        """Write the compressed file; return its MD5, in hex."""
        # isal's stubs leave its functions untyped.
        with cast("IO[bytes]", igzip.open(path, "wb", compresslevel=_GZIP_LEVEL)) as file:  # type: ignore[no-untyped-call]
            for block in self._hex_blocks():
                lines = np.empty(len(block), [("hex", block.dtype), ("end", "V1")])
                lines["hex"] = block
                lines["end"] = np.void(b"\n")
                file.write(lines.tobytes())
        with path.open("rb") as written:
            return hashlib.file_digest(written, "md5").hexdigest()

    def write_commands(self, path: Path, command: str, segment: str) -> None:
        """Write a command a row: `SADD`, or `SREM`."""
        key_bytes = len(_KEY_PREFIX) + 2 * HASH_BYTES
        before = b"*3\r\n$%d\r\n%s\r\n$%d\r\n%s" % (
            len(command),
            command.encode(),
            key_bytes,
            _KEY_PREFIX,
        )
        after = b"\r\n$%d\r\n%s\r\n" % (len(segment), segment.encode())
        with path.open("wb") as file:
            for block in self._hex_blocks():
                commands = np.empty(
                    len(block),
                    [
                        ("before", f"V{len(before)}"),
                        ("hex", block.dtype),
                        ("after", f"V{len(after)}"),
                    ],
                )
                commands["before"] = np.void(before)
                commands["hex"] = block
                commands["after"] = np.void(after)
                file.write(commands.tobytes())

    def _hex_blocks(self) -> Iterator["np.ndarray[tuple[int], np.dtype[np.void]]"]:
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.count, _BLOCK_ROWS):
            count = min(_BLOCK_ROWS, self.count - start)
            digits = rng.bytes(count * HASH_BYTES).hex().encode()
            yield np.frombuffer(digits, f"V{2 * HASH_BYTES}")
