"""
Ends a command when the reader of its output is gone: `rtb-segments audit export | head -1`.

The command ends silently, with SIGPIPE's exit status, and releases its resources first. The signal
is not used, because the sockets of store and ledger would raise it, too; nor Python's
`BrokenPipeError`: commands take an `OSError` for an absent store or file.

stderr is exempt: a server continues without a reader of its log.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO, cast

ENDED_BY_SIGPIPE: Final = 141
"""As a shell shows it: 128 plus the signal's number."""


@contextmanager
def ends_with_its_reader() -> Iterator[None]:
    """End the process by `SystemExit` when stdout's reader is gone."""
    ours = sys.stdout
    sys.stdout = cast("TextIO", _Output(ours))
    try:
        yield
    finally:
        sys.stdout = ours


class _Output:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> "_Output":
        return _Output(self._stream.buffer)

    def write(self, content: Any) -> int:
        with self._ending():
            return int(self._stream.write(content))

    def flush(self) -> None:
        with self._ending():
            self._stream.flush()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # Otherwise Python writes the buffer again at exit.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            raise SystemExit(ENDED_BY_SIGPIPE) from None
