"""
Keeps OpenTelemetry out of processes that send nothing.

redis-py imports it wherever it is installed: 0.15 s of CPU at each start, and 60 modules. So its
two modules are hidden before anything of ours is imported, and shown again before we import them.
"""

import sys
from typing import Final

_MODULES: Final = ("opentelemetry.metrics", "opentelemetry.sdk.metrics")


def hide() -> None:
    """Let imports of the modules fail, unless they are there."""
    for name in _MODULES:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type] # as the import system defines it


def show() -> None:
    """Let them be imported again."""
    for name in _MODULES:
        if sys.modules.get(name, sys) is None:
            del sys.modules[name]
