"""
The log level of a process: `LOG_LEVEL`, as the hosts of our containers set it.

The words of each host (syslog's, zap's, Python's) are accepted, and no others.
"""

import logging
from typing import Annotated, Final

from pydantic import AfterValidator

_LEVELS: Final = {
    logging.DEBUG: ("debug", "trace"),
    logging.INFO: ("info", "information", "notice"),
    logging.WARNING: ("warning", "warn"),
    logging.ERROR: ("error", "err"),
    logging.CRITICAL: ("critical", "crit", "alert", "emerg", "dpanic", "panic", "fatal"),
}
_NAME_TO_LEVEL: Final = {name: level for level, names in _LEVELS.items() for name in names}


def _checked(name: str) -> str:
    if name.strip().lower() not in _NAME_TO_LEVEL:
        raise ValueError("one of debug, info, warning, error, critical")
    return name


LogLevel = Annotated[str, AfterValidator(_checked)]


def be_as_loud_as(name: LogLevel) -> None:
    """
    Log this level and above.

    Libraries never log below `info`: there they quote SQL's parameters and lines of a client's
    request, which may hold a person's data.
    """
    level = _NAME_TO_LEVEL[name.strip().lower()]
    logging.getLogger().setLevel(max(level, logging.INFO))
    for ours in ("rtb", "segments"):
        logging.getLogger(ours).setLevel(level)
