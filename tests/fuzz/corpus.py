"""
The inputs that are kept in the tree: one line of base64 each, in `corpus/NAME.txt`.

They are few and small: an input is kept for a step in our code, or an ending, that neither the
seeds nor a smaller one has, and it is made as small as it can be with that. An input that broke
a law stays for good, and has a test of its own by a name that says the law.
"""

import base64
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from tests.fuzz.coverage_feedback import Coverage
from tests.fuzz.shrink import shrunk
from tests.fuzz.target import Check, Target

CORPUS = Path(__file__).parent / "corpus"
MAX_INPUTS = 64
MAX_INPUT_BYTES = 3_000
_TRIES_TO_SHRINK = 150


def corpus_of(target: Target) -> list[bytes]:
    """Return the inputs that are kept of a target."""
    path = CORPUS / f"{target.name}.txt"
    return [base64.b64decode(line) for line in path.read_text().split()] if path.exists() else []


def add_to_corpus(target: Target, found: Iterable[bytes]) -> int:
    """Keep those of some inputs that lead somewhere new; return how many lines there are now."""
    kept = corpus_of(target)
    with target.checking() as check:
        judge = _Judge(target, check)
        for data in (*target.seeds(), *kept):
            judge.is_news(data)
        for data in sorted(set(found), key=len):
            if len(kept) < MAX_INPUTS and len(data) <= MAX_INPUT_BYTES:
                smaller = judge.news_of(data)
                kept += [] if smaller is None else [smaller]
    _write(target, kept)
    return len(kept)


def _write(target: Target, kept: Sequence[bytes]) -> None:
    lines = (base64.b64encode(data).decode() for data in kept)
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{target.name}.txt").write_text("".join(f"{line}\n" for line in lines))


class _Judge:
    def __init__(self, target: Target, check: Check) -> None:
        self._check = check
        self._coverage = Coverage(target.watched)
        self._endings: set[Hashable] = set()

    def _run(self, data: bytes) -> tuple[set[object], Hashable]:
        ending: list[Hashable] = []
        steps = self._coverage.steps_of(lambda: ending.append(self._check(data)))
        return {*steps}, ending[0]

    def is_news(self, data: bytes) -> bool:
        """Tell whether an input leads somewhere new, and remember that."""
        steps, ending = self._run(data)
        is_news = not steps <= self._coverage.seen or ending not in self._endings
        self._coverage.seen |= steps  # type: ignore[arg-type]
        self._endings.add(ending)
        return is_news

    def news_of(self, data: bytes) -> bytes | None:
        """Return the smallest form of an input that leads somewhere new; `None` of another."""
        steps, ending = self._run(data)
        new = steps - self._coverage.seen
        if not new and ending in self._endings:
            return None
        smaller = shrunk(data, self._leads_to(new, ending), _TRIES_TO_SHRINK)
        self.is_news(smaller)
        return smaller

    def _leads_to(self, new: set[object], ending: Hashable) -> Callable[[bytes], bool]:
        def leads(data: bytes) -> bool:
            steps, other = self._run(data)
            return new <= steps and other == ending

        return leads
