import pytest

from tests.segments.cli.conftest import Command

PASSWORD = b"correct horse battery\n"


def test_staff_is_added_listed_revoked_and_let_in_again(ok: Command) -> None:
    ok("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")
    desk = ("--role", "privacy", "--partner", "shop", "--password-stdin")
    ok("staff", "add", "Ada", "--role", "operator", "--password-stdin", stdin=PASSWORD)
    ok("staff", "add", "desk", *desk, stdin=PASSWORD)
    added = ok("staff", "list").stdout
    ok("staff", "revoke", "ADA")
    revoked = ok("staff", "list").stdout
    ok("staff", "password", "ada", "--password-stdin", stdin=PASSWORD)
    again = ok("staff", "list").stdout

    assert added.splitlines() == [
        "ada\toperator\t-\tat the next login\tactive",
        "desk\tprivacy\tshop\tat the next login\tactive",
    ]
    assert "ada\toperator\t-\tat the next login\trevoked" in revoked
    assert again == added


def test_second_factor_is_printed_for_who_can_not_scan_it(ok: Command) -> None:
    said = ok(
        "staff", "add", "ada", "--role", "operator", "--show-code", "--password-stdin",
        stdin=PASSWORD,
    ).stdout  # fmt: skip

    assert "otpauth://totp/rtb-segments:ada?secret=" in said
    assert "at the next login" in ok("staff", "list").stdout
    assert "secret" not in ok("audit", "export").stdout


def test_staff_that_cannot_be_is_refused_in_one_line(run: Command, ok: Command) -> None:
    ok("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")
    ok("user", "add", "bob", "--partner", "shop", "--password-stdin", stdin=PASSWORD)
    operator = ("--role", "operator", "--password-stdin")

    refusals = [
        run("staff", "add", "Bob", *operator, stdin=PASSWORD),
        run("staff", "add", "ada", *operator, stdin=b"short\n"),
        run("staff", "add", "ada", "--partner", "shop", *operator, stdin=PASSWORD),
        run("staff", "password", "ada", "--password-stdin", stdin=PASSWORD),
        run("staff", "revoke", "ada"),
    ]

    assert [refusal.exit_code for refusal in refusals] == [1] * 5
    assert all(refusal.output.startswith("Error: ") for refusal in refusals)
    assert all(refusal.output.count("\n") == 1 for refusal in refusals)


def test_console_that_would_be_reached_in_clear_does_not_start(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_CONSOLE_HOST", "0.0.0.0")

    refused = run("console")

    assert refused.exit_code == 1
    assert "SEGMENTS_CONSOLE_HOST=0.0.0.0: passwords would come in clear" in refused.output
