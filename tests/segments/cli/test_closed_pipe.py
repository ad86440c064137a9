"""`rtb-segments X | head -1`: a command whose reader has gone ends without a word."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest

from segments.cli import main
from tests.engines import Engine
from tests.segments.cli.conftest import Command
from tests.segments.ingest.deliveries import as_json, email_hashes, metadata_of, text_of
from tests.sftp import new_key

ENDED_BY_SIGPIPE = 141
PASSWORD = b"correct horse battery\n"
ORG = "0123456789ABCDEF@AdobeOrg"
CONTENT = text_of(email_hashes(20))
SHOP = ("--partner", "shop")

SERVES = {("up",), ("serve",), ("loader",), ("sftp",), ("api",), ("publish",), ("console",)}
"""They end by signals."""

COMMANDS: list[tuple[str, ...]] = [
    ("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop"),
    ("account", "add", "--kind", "publisher", "--id", "paper", "--name", "Paper"),
    ("account", "list"),
    ("account", "quota", "shop"),
    ("account", "relate", "paper", "shop"),
    ("account", "unrelate", "paper", "shop"),
    ("audience", "add", "1", *SHOP, "--name", "Shoes"),
    ("audience", "list"),
    ("audience", "ttl", "1", "30", *SHOP),
    ("audience", "window", "1", *SHOP),
    ("audience", "deactivate", "1", *SHOP),
    ("audience", "activate", "1", *SHOP),
    ("recipient", "add", "dsp-a", "--partner", "shop"),
    ("recipient", "list"),
    ("recipient", "grant", "dsp-a", "shop"),
    ("recipient", "hold-out", "dsp-a", "0.5"),
    ("recipient", "certificate", "dsp-a", "--san", "dns:bidder.example"),
    ("recipient", "token", "issue", "dsp-a"),
    ("recipient", "token", "list", "dsp-a"),
    ("recipient", "token", "rotate", "dsp-a"),
    ("recipient", "token", "waive", "dsp-a"),
    ("recipient", "token", "need", "dsp-a"),
    ("recipient", "token", "revoke", "dsp-a", "1"),
    ("recipient", "revoke", "dsp-a", "shop"),
    ("recipient", "deactivate", "dsp-a"),
    ("recipient", "activate", "dsp-a"),
    ("user", "add", "bob", *SHOP, "--password-stdin"),
    ("user", "list"),
    ("user", "password", "bob", "--password-stdin"),
    ("user", "admin", "bob"),
    ("user", "revoke", "bob"),
    ("staff", "add", "ada", "--role", "operator", "--password-stdin"),
    ("staff", "list"),
    ("staff", "password", "ada", "--password-stdin"),
    ("staff", "revoke", "ada"),
    ("key", "add", "shop", "shop.pub"),
    ("key", "list"),
    ("key", "host", "--replace", "shop"),
    ("key", "host"),
    ("key", "publish", "publish.pem"),
    ("key", "remove", "shop", "FINGERPRINT"),
    ("org", "add", ORG, *SHOP),
    ("org", "list"),
    ("connection", "add", "files", "--org", ORG, "--url", "file:///srv/acme"),
    ("connection", "list"),
    ("connection", "remove", "CONNECTION"),
    ("org", "revoke", "API KEY"),
    ("token", "create"),
    ("token", "list"),
    ("token", "revoke", "1"),
    ("import", "users.csv"),
    ("load", "file", "--metadata", "file.json"),
    ("status",),
    ("status", "1"),
    ("explain", "bid.json"),
    ("release", "1"),
    ("restrict", "email:" + email_hashes(1)[0]),
    ("erase", "email:" + email_hashes(1)[0]),
    ("audit", "export"),
    ("doctor",),
    ("sweep",),
    ("scrub",),
    ("backup", "elsewhere"),
    ("restore", "elsewhere", "--replace"),
    ("rebuild", "--yes"),
    ("reconcile", "--no-rebuild"),
    ("adopt-store", "--from", "0" * 32, "--yes"),
    ("account", "deactivate", "shop"),
    ("account", "activate", "shop"),
    ("audience", "delete", "1", *SHOP, "--yes"),
]
"""In an order in which each finds what it needs."""

REFUSED = {"release", "reconcile", "adopt-store"}
"""What they have to say here is on stderr."""


def all_commands(of: click.Command = main, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not isinstance(of, click.Group):
        yield name
        return
    for each in of.list_commands(click.Context(of)):
        command = of.get_command(click.Context(of), each)
        assert command is not None
        yield from all_commands(command, (*name, each))


def ended(*arguments: str) -> tuple[object, str]:
    """Run a command that nobody reads; return its exit status and what it said on stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    said = io.StringIO()
    with (
        open(writing, "w") as out,  # noqa: PTH123 - a descriptor
        redirect_stdout(out),
        redirect_stderr(said),
        pytest.raises(SystemExit) as caught,
    ):
        main(arguments, prog_name="rtb-segments")
    return caught.value.code, said.getvalue()


def test_no_command_is_left_out() -> None:
    tried = {name for name in all_commands() for each in COMMANDS if each[: len(name)] == name}

    assert tried | SERVES == set(all_commands())


def test_help_that_nobody_reads_ends_without_a_word() -> None:
    ends = {name: ended(*name, "--help") for name in all_commands()}

    assert set(ends.values()) == {(ENDED_BY_SIGPIPE, "")}


def test_command_whose_reader_has_gone_ends_without_a_word(
    ok: Command, store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.pub").write_bytes(new_key(tmp_path / "shop"))
    (tmp_path / "file").write_bytes(CONTENT)
    (tmp_path / "file.json").write_bytes(
        as_json(metadata_of(CONTENT, records=20, partner_id="shop"))
    )
    (tmp_path / "bid.json").write_bytes(b'{"id":"1"}')
    (tmp_path / "users.csv").write_bytes(b"username,partner\neve,shop\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PASSWORD * 4)))

    def drawn(word: str) -> str:
        """Return what only the ledger knows, from what another command lists."""
        listed = {
            "FINGERPRINT": (("key", "list"), r"SHA256:\S+"),
            "CONNECTION": (("connection", "list"), r"\S+"),
            "API KEY": (("org", "list"), r"\b[0-9a-f]{32}\b"),
        }.get(word)
        if listed is None:
            return word
        found = re.search(listed[1], ok(*listed[0]).stdout)
        assert found, word
        return found[0]

    ends = {each: ended(*map(drawn, each)) for each in COMMANDS}

    wrong = {
        " ".join(each): end
        for each, end in ends.items()
        if end[0] != ENDED_BY_SIGPIPE and each[0] not in REFUSED
    }
    assert wrong == {}, wrong
    assert "Traceback" not in "".join(said for _, said in ends.values())
