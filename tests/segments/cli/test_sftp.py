import json
import subprocess
from pathlib import Path

import pytest

from tests.segments.cli.conftest import Command
from tests.sftp import new_key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    new_key(tmp_path / "key", "-t", "ed25519", "-C", "someone@somewhere")
    return tmp_path / "key.pub"


@pytest.fixture
def ok_with_shop(ok: Command) -> Command:
    ok("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")
    return ok


def test_key_is_added_listed_and_removed(ok_with_shop: Command, key_file: Path) -> None:
    said = ok_with_shop("key", "add", "shop", str(key_file)).stdout
    fingerprint = said.split()[-1]

    assert ok_with_shop("key", "list").stdout == f"shop\t{fingerprint}\tsomeone@somewhere\n"

    ok_with_shop("key", "remove", "shop", fingerprint)
    assert ok_with_shop("key", "list").stdout == ""


def test_adding_a_key_needs_no_store(ok_with_shop: Command, key_file: Path) -> None:
    """
    The bid path knows nothing of keys, so there is nothing to publish.
    """
    assert ok_with_shop("key", "add", "shop", str(key_file)).stderr == ""


def test_key_of_nobody_is_refused(run: Command, key_file: Path) -> None:
    result = run("key", "add", "nobody", str(key_file))

    assert (result.exit_code, result.stderr) == (1, "Error: there is no partner nobody\n")


def test_private_key_is_refused(ok_with_shop: Command, run: Command, key_file: Path) -> None:
    result = run("key", "add", "shop", str(key_file.with_suffix("")))

    assert result.exit_code == 1
    assert "private key" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("-t", "rsa", "-b", "1024"), "less than 2048 bits", id="short RSA"),
        pytest.param(("-t", "rsa", "-b", "2048"), None, id="RSA"),
        pytest.param(("-t", "ecdsa"), None, id="ECDSA"),
        pytest.param(("-t", "ed25519"), None, id="ed25519"),
    ],
)
def test_only_strong_keys_are_taken(
    ok_with_shop: Command, run: Command, tmp_path: Path, options: tuple[str, ...], said: str | None
) -> None:
    new_key(tmp_path / "k", *options)

    result = run("key", "add", "shop", str(tmp_path / "k.pub"))

    assert result.exit_code == (0 if said is None else 1)
    assert said is None or said in result.stderr


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"ssh-ed25519 AAAA", b"\xff" * 10_000])
def test_what_is_no_key_is_refused(
    ok_with_shop: Command, run: Command, tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / "k.pub").write_bytes(raw)

    result = run("key", "add", "shop", str(tmp_path / "k.pub"))

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


def test_port_that_is_taken_is_named(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("SEGMENTS_SFTP_HOST", "127.0.0.1")
        monkeypatch.setenv("SEGMENTS_SFTP_PORT", str(port))

        result = run("sftp")

    assert result.exit_code == 1
    assert f"SEGMENTS_SFTP_PORT={port}" in result.stderr


def test_host_keys_are_shown_once_there_are_any_and_replaced_by_an_operators_own(
    ok: Command, run: Command, tmp_path: Path
) -> None:
    new_key(tmp_path / "key", "-t", "ed25519")
    own = subprocess.check_output(["ssh-keygen", "-l", "-f", tmp_path / "key"], text=True).split()[
        1
    ]

    assert "generates them" in run("key", "host").stderr
    replaced = ok("key", "host", "--replace", str(tmp_path / "key"))
    assert replaced.stdout == f"ssh-ed25519\t{own}\n"
    assert "start the SFTP servers again" in replaced.stderr
    assert json.loads(ok("key", "host", "--json").stdout) == [
        {"algorithm": "ssh-ed25519", "fingerprint": own}
    ]
    assert json.loads(ok("audit", "export").stdout.splitlines()[-1])["target"] == "ssh-ed25519"
