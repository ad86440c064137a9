from tests.segments.cli.conftest import Command

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
