"""
Splits the blocks of a file into whole lines, in bounded memory.

A line beyond a limit is discarded as it arrives; the caller learns its position.
"""

from typing import NamedTuple

MAX_LINE_BYTES = 4096
"""No record's line, with its line end, needs more."""


class Lines(NamedTuple):
    """The lines of a block."""

    is_behind_long_line: bool  # a discarded line ended before these
    lines: bytes  # whole, each with its line end


class LineSplitter:
    """Takes the blocks of one file in order."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = b""
        self._is_in_long_line = False

    def feed(self, block: bytes) -> Lines:
        """Take the file's next bytes; return complete lines."""
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
        """Take the end of the file; the last line may lack its line end."""
        cut = Lines(self._is_in_long_line, self._rest)
        self._rest = b""
        self._is_in_long_line = False
        return cut
