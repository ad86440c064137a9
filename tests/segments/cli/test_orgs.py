from tests.segments.cli.conftest import Command

ORG = "0123@AdobeOrg"


def add_shop(ok: Command) -> None:
    ok("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")


def test_org_is_added_listed_and_revoked_and_its_token_is_shown_once(ok: Command) -> None:
    add_shop(ok)

    made = ok("org", "add", ORG, "--partner", "shop", "--user", "jane").stdout
    dev = ok("org", "add", ORG, "--partner", "shop", "--sandbox", "dev").stdout
    listed = ok("org", "list").stdout
    key, token = (line.split("\t")[1] for line in made.splitlines())
    ok("org", "revoke", key)
    revoked = ok("org", "list").stdout

    assert listed.splitlines()[0].split("\t") == [ORG, "prod", "shop", key, "jane", "active"]
    assert listed.splitlines()[1].split("\t")[1] == "dev"
    assert token not in listed
    assert token not in dev
    assert [line.split("\t")[5] for line in revoked.splitlines()] == ["revoked", "active"]


def test_connection_is_added_listed_and_removed(ok: Command) -> None:
    add_shop(ok)
    ok("org", "add", ORG, "--partner", "shop")

    added = ok("connection", "add", "files", "--org", ORG, "--url", "file:///srv/acme").stdout
    listed = ok("connection", "list").stdout
    ok("connection", "remove", added.strip())

    assert listed.split("\t") == [added.strip(), "files", ORG, "prod", "file:///srv/acme\n"]
    assert ok("connection", "list").stdout == ""


def test_what_cannot_be_is_refused_in_one_line(run: Command, ok: Command) -> None:
    add_shop(ok)
    ok("account", "add", "--kind", "advertiser", "--id", "other", "--name", "Other")
    ok("org", "add", ORG, "--partner", "shop")
    to_org = ("--org", ORG, "--url")

    refusals = [
        run("org", "add", ORG, "--partner", "other"),
        run("org", "add", ORG, "--partner", "nobody"),
        run("org", "revoke", "0"),
        run("connection", "add", "x", "--org", "none", "--url", "file:///x"),
        run("connection", "add", "x", *to_org, "nope://x"),
        run("connection", "add", "x", *to_org, "s3://x", "--option", "aws_secret_access_key=y"),
        run("connection", "add", "x", *to_org, "s3://x", "--option", "aws_region"),
        run("connection", "remove", "x"),
    ]

    assert [refusal.exit_code for refusal in refusals] == [1] * len(refusals)
    assert all(refusal.output.startswith("Error: ") for refusal in refusals)
    assert all(refusal.output.count("\n") == 1 for refusal in refusals)
