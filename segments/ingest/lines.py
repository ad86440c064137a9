"""
Blocks of a file to whole lines, in memory that no line can fill.

A line that goes on beyond a limit is thrown away as it comes, a gigabyte
of it too; whoever cuts is told that there was one, where it was.
"""

from typing import NamedTuple

MAX_LINE_BYTES = 4096
"""A line of a record and its line end has no reason to be longer."""


class Lines(NamedTuple):
    """What a block brought."""

    is_behind_long_line: bool  # a line that was thrown away ended before these
    lines: bytes  # whole, each with its line end


class LineSplitter:
    """Feed it the blocks of one file, in order."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = b""
        self._is_in_long_line = False

    def feed(self, block: bytes) -> Lines:
        """Take the next bytes of the file; return the lines that they complete."""
        is_behind = False
        if self._is_in_long_line:
            end = block.find(b"\n") + 1
            if not end:
                return Lines(is_behind_long_line=False, lines=b"")
            block = block[end:]
            is_behind = True
            self._is_in_long_line = False
        text = self._rest + block if self._rest else block
        end = text.rfind(b"\n") + 1
        self._rest = text[end:]
        if len(self._rest) > self._max_line_bytes:
            self._rest = b""
            self._is_in_long_line = True
        return Lines(is_behind, text[:end])

    def finish(self) -> Lines:
        """Take the end of the file, where the last line may lack its line end."""
        cut = Lines(self._is_in_long_line, self._rest)
        self._rest = b""
        self._is_in_long_line = False
        return cut
