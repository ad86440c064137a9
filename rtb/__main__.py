"""`python -m rtb`: the bid listener, or an explained bid; configured by its environment."""

import argparse
import os
import sys

from rtb.server import explain_command
from rtb.server.listening_sockets import CannotListen
from rtb.server.supervisor import supervise
from rtb.settings import RtbSettings
from segments.runtime.event_loop import run_listening
from segments.runtime.fork_server import ForkServer
from segments.runtime.log_lines import log_to_stderr
from segments.runtime.settings_reader import read_settings
from segments.runtime.tls import UnusableTls


def main() -> None:
    """Read the settings, and serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m rtb")
    parser.add_argument("--workers", help="processes; otherwise RTB_WORKERS")
    commands = parser.add_subparsers(dest="command")
    explain_command.add_arguments(
        commands.add_parser("explain", help="explain the outcome of a bid; serve nothing")
    )
    arguments = parser.parse_args()
    if arguments.command is not None:
        explain_command.run(arguments)
        return
    workers = arguments.workers
    if workers is not None:
        # A variable, for the same validation, also in a roll.
        os.environ["RTB_WORKERS"] = workers
    settings = read_settings(RtbSettings)
    fork_server = ForkServer(["rtb.server.worker"])  # before it logs: each worker calls its own
    log_to_stderr(settings.log_level, settings.log_format, "listener")
    try:
        run_listening(supervise(settings, fork_server))
    except (CannotListen, UnusableTls) as refused:
        sys.exit(f"rtb: {refused}")


if __name__ == "__main__":
    main()
