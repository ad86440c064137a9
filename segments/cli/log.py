"""How our processes log: one line an event to stderr, which the container collects."""

import logging
import time


def log_to_stderr() -> None:
    """Log times in UTC, the level, the module and the message."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)sZ %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    # It tells of each of its plugins.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
