from pathlib import Path

import pytest

from tests.segments.cli.conftest import Command
from tests.tls import TestCa

PASSWORD = b"correct horse battery\n"


def add_shop(ok: Command) -> None:
    ok("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")


def test_user_is_added_listed_revoked_and_let_in_again(ok: Command) -> None:
    add_shop(ok)

    ok("user", "add", "Bob", "--partner", "shop", "--password-stdin", stdin=PASSWORD)
    added = ok("user", "list").stdout
    ok("user", "revoke", "BOB")
    revoked = ok("user", "list").stdout
    ok("user", "password", "bob", "--password-stdin", stdin=PASSWORD)
    again = ok("user", "list").stdout

    assert added.split()[::2] == ["bob", "shop"]
    assert [listed.split()[3] for listed in (added, revoked, again)] == [
        "active",
        "revoked",
        "active",
    ]


def test_password_is_asked_for_twice_and_not_shown(ok: Command) -> None:
    add_shop(ok)

    said = ok("user", "add", "bob", "--partner", "shop", stdin=PASSWORD * 2).output

    assert "added user bob" in said
    assert PASSWORD.decode().strip() not in said


@pytest.mark.parametrize("command", [("add", "bob", "--partner", "shop"), ("password", "bob")])
def test_password_without_a_terminal_is_asked_for_on_standard_input(
    run: Command, ok: Command, command: tuple[str, ...]
) -> None:
    add_shop(ok)

    refused = run("user", *command, stdin=PASSWORD)

    assert refused.exit_code == 2
    assert "give it with --password-stdin, as a line of standard input" in refused.stderr
    assert "Warning" not in refused.stderr


def test_user_that_cannot_be_is_refused_in_one_line(run: Command, ok: Command) -> None:
    add_shop(ok)
    ok("account", "add", "--kind", "publisher", "--id", "pub", "--name", "Publisher")
    ok("user", "add", "bob", "--partner", "shop", "--password-stdin", stdin=PASSWORD)

    refusals = [
        run("user", "add", "BOB", "--partner", "shop", "--password-stdin", stdin=PASSWORD),
        run("user", "add", "eve", "--partner", "pub", "--password-stdin", stdin=PASSWORD),
        run("user", "add", "eve", "--partner", "shop", "--password-stdin", stdin=b"short\n"),
        run("user", "add", " eve", "--partner", "shop", "--password-stdin", stdin=PASSWORD),
        run("user", "password", "eve", "--password-stdin", stdin=PASSWORD),
        run("user", "revoke", "eve"),
    ]

    assert [refusal.exit_code for refusal in refusals] == [1] * 6
    assert all(refusal.output.startswith("Error: ") for refusal in refusals)
    assert all(refusal.output.count("\n") == 1 for refusal in refusals)


@pytest.mark.parametrize(("command", "door"), [("api", "API"), ("loader", "ADMIN")])
def test_door_refuses_to_start_with_tls_files_that_are_of_no_use(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, door: str
) -> None:
    ca = TestCa.in_folder(tmp_path / "tls")
    variable = f"SEGMENTS_{door}_TLS"
    monkeypatch.setenv("SEGMENTS_LOADER_HOST", "127.0.0.1")
    monkeypatch.setenv("SEGMENTS_LOADER_PORT", "0")
    monkeypatch.setenv(f"{variable}_CERT", str(ca.cert))

    half = run(command)
    monkeypatch.setenv(f"{variable}_KEY", str(tmp_path / "none"))
    unreadable = run(command)

    assert (half.exit_code, half.output) == (
        2,
        f"{variable}_KEY: not set, while {variable}_CERT is\n",
    )
    assert (unreadable.exit_code, unreadable.output) == (
        1,
        f"Error: {variable}_KEY: No such file or directory\n",
    )


def test_public_url_without_tls_is_refused_where_the_door_has_it(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Partners would be sent to a port that hangs up on them."""
    ca = TestCa.in_folder(tmp_path / "tls")
    monkeypatch.setenv("SEGMENTS_API_TLS_CERT", str(ca.cert))
    monkeypatch.setenv("SEGMENTS_API_TLS_KEY", str(ca.key))
    monkeypatch.setenv("SEGMENTS_API_PUBLIC_URL", "http://audiences.example")

    refused = run("api")

    assert refused.exit_code == 2
    assert refused.output == (
        "SEGMENTS_API_PUBLIC_URL: begins with http://, while SEGMENTS_API_TLS_CERT is set\n"
    )
