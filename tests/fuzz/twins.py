"""
Interpreted twins of modules that are compiled: the same source, run by Python.

They are a second reader to agree with, and leave the trace that compiled code does not.
Where nothing is compiled there is no second reader, and the modules are their own twins.
"""

import sys
from importlib import import_module
from types import ModuleType
from zlib import crc32

import rtb.consent.tcf
from rtb.outcome import Reason
from tests.edge.bid_modules import SourceAlone

_OURS = ("rtb", "segments")
_MADE_OF_OURS = ("tests.rtb.requests", "tests.rtb.questions", "tests.artf.oracle")
"""Modules of the tests whose values are of our classes; a twin has its own."""

ARE_COMPILED = not str(rtb.consent.tcf.__file__).endswith(".py")


_ASKED_EACH = 4


def is_asked(data: bytes) -> bool:
    """Tell whether a twin is asked of an input: by its bytes, and of each whose steps are seen."""
    return ARE_COMPILED and (crc32(data) % _ASKED_EACH == 0 or sys.gettrace() is not None)


def end_alike(ending: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """
    Tell whether a question ends alike, compiled and interpreted.

    How deep is too deep depends on the calls around; a fault behind that depth is not read.
    """
    if len(ending) == len(other) == 1 and Reason.TOO_DEEP in (*ending, *other):
        return True  # malformed, both
    return ending == other


def twins_of(*names: str) -> list[ModuleType]:
    """Import modules by their source alone, beside those that are there."""
    if not ARE_COMPILED:
        return [import_module(name) for name in names]
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    finder = SourceAlone()
    sys.meta_path.insert(0, finder)
    try:
        return [import_module(name) for name in names]
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if _is_ours(name):
                del sys.modules[name]
        sys.modules.update(kept)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _OURS or name in _MADE_OF_OURS
