"""
`rtb-segments`: the command line for all processes and all records of the service.

This module only lists the commands. A command's module is imported when the command is called, so
`rtb-segments serve` does not import SQLAlchemy, and `--help` imports no command at all.
"""

from importlib import import_module
from keyword import iskeyword
from typing import Any

import click
from click.shell_completion import CompletionItem

from segments.cli.closed_pipe import ends_with_its_reader

_COMMANDS = {
    "Processes": {
        "up": ("processes", "Run all processes on this host: store, loader, doors, bid listener."),
        "serve": ("processes", "Run only the bid listener, which answers bid requests."),
        "loader": (
            "ingest",
            "Load delivered files into the store until stopped, each partner's in order.",
        ),
        "sftp": (
            "sftp",
            "Accept partners' deliveries by SFTP, or directly in the drop folder.",
        ),
        "publish": (
            "publish",
            "Publish the store as signed files, for pods without a network, until stopped.",
        ),
        "console": (
            "console",
            "Serve the console: pages for partners, operators and privacy desks.",
        ),
        "api": ("api", "Serve the REST doors: logins, audiences, uploads, data subject requests."),
    },
    "Deliveries": {
        "load": ("ingest", "Load a FILE of hashed e-mail addresses into the store."),
        "status": (
            "status",
            "Show the state of a JOB (number or transaction id), or the latest jobs.",
        ),
        "release": (
            "upkeep",
            "Let a held JOB (number or transaction id) continue despite its removals.",
        ),
    },
    "Opt-outs and data subject requests": {
        "restrict": (
            "privacy",
            "Never enrich bids for a person again; the memberships stay, hidden.",
        ),
        "erase": ("privacy", "Never enrich bids for a person again, and delete the memberships."),
        "token": ("tokens", "Manage bearer tokens of the Privacy API."),
        "audit": ("audit", "Read the audit trail: who did what with whose data, and the result."),
        "scrub": ("upkeep", "Remove the ids of erased persons from all kept files now."),
    },
    "Partners and recipients": {
        "account": (
            "accounts",
            "Manage partners and their sub accounts, publishers, media groups.",
        ),
        "audience": ("audiences", "Manage audiences, each named by a partner's segment id."),
        "import": (
            "bulk_import",
            "Add accounts, users and audiences from CSV files: all of them, or none.",
        ),
        "recipient": (
            "recipients",
            "Manage recipients: the bidders we serve, and the partners granted to each.",
        ),
        "user": ("api", "Manage logins to the REST doors, and the partner of each."),
        "staff": ("staff", "Manage the console's staff: operators and privacy desks."),
        "key": (
            "sftp",
            "Manage keys for SFTP logins, the Privacy API's JWTs (--jwt) and publications.",
        ),
        "org": (
            "orgs",
            "Manage orgs that may request external audiences, their sandboxes and partners.",
        ),
        "connection": ("orgs", "Manage base connections: customers' directories and buckets."),
    },
    "Store and ledger": {
        "explain": (
            "explain",
            "Explain the outcome of the bid request in FILE, stage by stage; - is standard input.",
        ),
        "doctor": (
            "doctor",
            "Check ledger, files and store, and say how to fix each problem.",
        ),
        "backup": (
            "backup",
            "Back up ledger, delivered files and SFTP host keys into DIR or a bucket's URL.",
        ),
        "restore": ("backup", "Put a backup back: ledger, delivered files and SFTP host keys."),
        "rebuild": ("upkeep", "Rebuild the store from the ledger and the delivered files."),
        "reconcile": (
            "reconcile",
            "Bring a ledger that was restored from a backup up to date with its store.",
        ),
        "adopt-store": (
            "reconcile",
            "Take over a store whose own ledger is lost for good.",
        ),
        "sweep": (
            "upkeep",
            "Remove expired memberships, those of deleted audiences, and orphaned files.",
        ),
    },
}
"""Section -> command -> its module, and the first sentence of its help for `--help`."""

PROCESSES = frozenset(_COMMANDS["Processes"])
"""The commands that run until stopped."""

_MODULES = {name: module for section in _COMMANDS.values() for name, (module, _) in section.items()}


class _Lazy(click.Group):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        with ends_with_its_reader():
            return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"segments.cli.{_MODULES[cmd_name]}")
        name = cmd_name.replace("-", "_")
        command = getattr(module, f"{name}_" if iskeyword(name) else name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Click's own would import every command, for seconds.
        commands = [
            CompletionItem(name, help=said)
            for section in _COMMANDS.values()
            for name, (_, said) in section.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in _COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, said) for name, (_, said) in section.items()])


@click.group(cls=_Lazy)
@click.version_option(package_name="rtb-segments", prog_name="rtb-segments")
def main() -> None:
    """Adds audience segments to bid requests, and never for a person who opted out."""
