"""
Which lines of our code an input ran through, one after the other: what coverage guides by.

A pair of lines that was never run in that order before is news. Compiled modules leave no
trace; of those a target runs the interpreted twins (`tests.fuzz.twins`), too.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_ROOT = f"{Path(__file__).parents[2]}/"

Steps = set[tuple[CodeType, int, int]]


class Coverage:
    """
    The steps that were seen.

    Args:
        watched: Beginnings of paths, from the root of the repository.
    """

    def __init__(self, watched: tuple[str, ...]) -> None:
        self.seen: Steps = set()
        self._watched = tuple(_ROOT + each for each in watched)
        self._is_watched: dict[CodeType, bool] = {}
        self._steps: Steps = set()

    def steps_of(self, run: Callable[[], object]) -> Steps:
        """Return the steps of one run."""
        self._steps = set()
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            run()
        finally:
            sys.settrace(before)
        return self._steps

    def are_new(self, steps: Steps) -> bool:
        """Tell whether any of these was never seen, and remember them."""
        if steps <= self.seen:
            return False
        self.seen |= steps
        return True

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        is_watched = self._is_watched.get(code)
        if is_watched is None:
            is_watched = code.co_filename.startswith(self._watched)
            self._is_watched[code] = is_watched
        if not is_watched:
            return None
        steps, last = self._steps, 0

        def on_line(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal last
            steps.add((code, last, frame.f_lineno))
            last = frame.f_lineno
            return on_line

        return on_line
