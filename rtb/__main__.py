"""`python -m rtb`: the bid listener, as its environment says."""

import argparse
import asyncio
import logging
import os
import sys

from rtb.server.listening_sockets import CannotListen
from rtb.server.supervisor import supervise
from rtb.settings import RtbSettings
from segments.runtime.settings_reader import read_settings
from segments.runtime.tls import UnusableTls


def main() -> None:
    """Read the settings, and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m rtb")
    parser.add_argument("--workers", help="processes; otherwise RTB_WORKERS")
    workers = parser.parse_args().workers
    if workers is not None:
        # As a variable, so that it is judged like one, and holds when a roll reads them anew.
        os.environ["RTB_WORKERS"] = workers
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
