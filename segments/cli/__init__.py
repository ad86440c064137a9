"""
`rtb-segments`: the command line over every process and every record kept.

Each module beside this one holds the commands of one subject; this one only
lists them. A command's own module is imported when it is called, so
`rtb-segments serve` does not wait for SQLAlchemy.
"""

from importlib import import_module

import click

_COMMAND_TO_MODULE = {
    "up": "processes",
    "serve": "processes",
    "loader": "ingest",
    "load": "ingest",
    "status": "ingest",
    "sftp": "sftp",
    "key": "sftp",
    "restrict": "privacy",
    "erase": "privacy",
    "token": "tokens",
    "audit": "audit",
    "api": "api",
    "user": "api",
    "org": "orgs",
    "connection": "orgs",
    "account": "accounts",
    "audience": "audiences",
    "recipient": "recipients",
    "release": "upkeep",
    "rebuild": "upkeep",
    "reconcile": "reconcile",
    "adopt-store": "reconcile",
    "sweep": "upkeep",
    "scrub": "upkeep",
    "doctor": "doctor",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMAND_TO_MODULE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMAND_TO_MODULE:
            return None
        module = import_module(f"segments.cli.{_COMMAND_TO_MODULE[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Lazy)
def main() -> None:
    """Adds audience segments to bid requests, and never for a person who said no."""
