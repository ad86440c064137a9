"""`python -m rtb`: the bid listener, as its environment says."""

import asyncio
import logging
import sys

from rtb.server.supervisor import CannotListen, supervise
from rtb.settings import RtbSettings
from segments.settings import read_settings
from segments.tls import UnusableTls


def main() -> None:
    """Read the settings, and serve until told to stop."""
    settings = read_settings(RtbSettings)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s bid listener: %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(supervise(settings))
    except (CannotListen, UnusableTls) as refused:
        sys.exit(f"rtb: {refused}")


if __name__ == "__main__":
    main()
