"""What each command logs: in the one form, under its name, and never on stdout."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import click
import pytest
from click.testing import CliRunner

from segments.cli import PROCESSES, main
from segments.files.blobs import DELIVERIES
from tests.commands import run_command
from tests.engines import Engine
from tests.segments.cli.test_s3_away import delivered
from tests.segments.ingest.deliveries import PARTNER_ID, email_hashes

_ELSEWHERE = {
    ("serve",),  # hands over to the listener, or is a follower: with logs of their own
    ("key", "publish"),  # makes a file, and reads no setting
}
_MORE = {
    ("erase",): [email_hashes(1)[0]],
    ("publish",): ["--everything"],
    ("recipient", "certificate"): ["--none"],
    ("restrict",): [email_hashes(1)[0]],
}
"""Of commands that need one of several parameters."""

_FLAGS = {"--yes", "--password-stdin"}


class _LogIsSet(Exception):
    """Raised in place of the command's work."""


def _commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _arguments(command: click.Command, file: Path) -> Iterator[str]:
    for parameter in command.params:
        if flag := _FLAGS.intersection(parameter.opts):
            yield from flag
        elif parameter.required:
            if isinstance(parameter, click.Option):
                yield parameter.opts[0]
            match parameter.type:
                case click.Choice(choices=choices):
                    yield choices[0]
                case click.Path() | click.File():
                    yield str(file)
                case _:
                    yield "1"


_COMMANDS = dict(_commands(main))


def _log_of(path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return level, form and process of a command's log."""

    def set_up(*log: str) -> None:
        raise _LogIsSet(*log)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segments.cli.control_settings.log_to_stderr", set_up)
    file = tmp_path / "file"
    file.write_text("kind,id,name\nadvertiser,acme,Acme\n")
    arguments = [*path, *_arguments(_COMMANDS[path], file), *_MORE.get(path, ())]
    done = CliRunner().invoke(main, arguments, input="a long password\n")
    assert isinstance(done.exception, _LogIsSet), done.output
    return list(done.exception.args)


@pytest.mark.parametrize("path", sorted(_COMMANDS.keys() - _ELSEWHERE), ids=" ".join)
def test_every_command_sets_its_log_before_it_works(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_LOG_FORMAT", "json")

    level = "info" if path[0] in PROCESSES else "warning"
    assert _log_of(path, tmp_path, monkeypatch) == [level, "json", path[0]]


def test_level_that_is_set_holds_for_a_command_that_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_LOG_LEVEL", "debug")

    assert _log_of(("sweep",), tmp_path, monkeypatch)[0] == "debug"


def test_error_is_an_object_on_stderr_and_the_list_on_stdout_is_as_ever(
    store: Engine, migrated_file: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    shutil.copy2(migrated_file, data)
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("SEGMENTS_", "RTB_"))}
    env = {**ours, "SEGMENTS_LOG_FORMAT": "json", "SEGMENTS_REDIS_URL": store.url}
    hashes = email_hashes(2)

    def run(*arguments: str) -> CompletedProcess[str]:
        return run_command(*arguments, env=env, cwd=tmp_path)

    run("account", "add", "--kind", "advertiser", "--id", PARTNER_ID, "--name", "Partner")
    run(*delivered(tmp_path, hashes))
    run("erase", hashes[0])
    [file] = [path for path in (data / "blobs" / DELIVERIES).rglob("*") if path.is_file()]
    file.unlink()
    scrubbed = run("scrub")
    listed = run("status", "--json")

    said = [json.loads(line) for line in scrubbed.stderr.splitlines() if line.startswith("{")]
    assert [(line["process"], line["level"]) for line in said] == [("scrub", "error")], scrubbed
    assert json.loads(listed.stdout)
    assert listed.stderr == ""
