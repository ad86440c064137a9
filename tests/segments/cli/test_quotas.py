from tests.segments.cli.conftest import Command
from tests.segments.cli.test_accounts import add_partner


def test_quota_is_set_shown_and_noted_and_taken_back(ok: Command) -> None:
    add_partner(ok)

    said = ok("account", "quota", "shop", "--audiences", "2", "--kept-bytes", "1000").stdout
    ok("audience", "add", "123", "--partner", "shop", "--name", "Shoes")
    shown = ok("account", "quota", "shop").stdout.splitlines()
    trail = ok("audit", "export").stdout
    ok("account", "quota", "shop", "--audiences", "none")

    assert "audiences 2" in said
    assert [line.split("\t") for line in shown] == [
        ["deliveries a day", "-", "0"],
        ["bytes delivered a day", "-", "0"],
        ["bytes kept", "1000", "0"],
        ["audiences", "2", "1"],
    ]
    assert "account quota" in trail
    assert "audiences\t-\t1" in ok("account", "quota", "shop").stdout


def test_command_that_goes_over_the_quota_is_refused_in_a_line(ok: Command, run: Command) -> None:
    add_partner(ok)
    ok("account", "quota", "shop", "--audiences", "0")

    refused = run("audience", "add", "123", "--partner", "shop", "--name", "Shoes")

    assert refused.exit_code == 1
    assert "the quota of 0 audiences is used up; ask the operator" in refused.output
