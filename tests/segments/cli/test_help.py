"""What `rtb-segments --help` prints, and what it costs."""

import os
import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from segments.cli import main

_HEAVY = ("aiohttp", "asyncssh", "numpy", "pyarrow", "pydantic", "redis", "sqlalchemy")


def test_help_says_of_each_command_its_own_first_sentence() -> None:
    said = " ".join(CliRunner().invoke(main, ["--help"]).output.split())

    for name in main.list_commands(click.Context(main)):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        sentence = " ".join((command.help or "").split("\n\n")[0].split())
        assert f" {name} {sentence}" in said


@pytest.mark.parametrize(
    ("option", "environment", "said"),
    [
        (["--help"], {}, "Processes:"),
        (["--version"], {}, "version"),
        ([], {"COMP_WORDS": "rtb-segments ", "COMP_CWORD": "1"}, "plain,sweep"),
    ],
    ids=["help", "version", "completed commands"],
)
def test_nothing_heavy_is_imported_to_print_it(
    option: list[str], environment: dict[str, str], said: str
) -> None:
    program = (
        "import sys; from segments.cli import main\n"
        f"try: main({option}, prog_name='rtb-segments')\n"
        f"except SystemExit: print('imported:', [m for m in {_HEAVY} if m in sys.modules])"
    )
    completing = {"_RTB_SEGMENTS_COMPLETE": "bash_complete"} if environment else {}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **completing, **environment},
        capture_output=True,
        text=True,
        check=True,
    )

    assert said in done.stdout

    assert done.stdout.endswith("imported: []\n")


def test_version_is_the_packages() -> None:
    said = CliRunner().invoke(main, ["--version"]).output

    assert said == f"rtb-segments, version {version('rtb-segments')}\n"


def test_command_over_the_ledger_waits_for_no_server_and_no_reader_of_files() -> None:
    program = (
        "import sys; from importlib import import_module\n"
        "for name in ('accounts', 'audiences', 'audit', 'privacy', 'recipients', 'tokens'):\n"
        "    import_module(f'segments.cli.{name}')\n"
        "print('imported:', [m for m in ('aiohttp', 'asyncssh', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "imported: []\n"


@pytest.mark.parametrize(
    ("before", "typed", "offered"),
    [
        ([], "rec", {"recipient", "reconcile"}),
        (["recipient"], "ad", {"add"}),
        (["doctor"], "--j", {"--json"}),
    ],
)
def test_commands_and_options_are_completed(
    before: list[str], typed: str, offered: set[str]
) -> None:
    completion = BashComplete(main, {}, "rtb-segments", "_RTB_SEGMENTS_COMPLETE")

    found = {each.value for each in completion.get_completions(before, typed)}

    assert found == offered
