import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from segments.runtime.settings_reader import WRONG_SETTINGS
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


def test_variable_that_a_connection_names_is_not_taken_for_a_misspelt_setting(
    run: Command, ok: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An earlier release took any name, and its environment is the same after the upgrade.
    """
    add_shop(ok)
    ok("org", "add", ORG, "--partner", "shop")
    monkeypatch.setenv("S3_KEY", "secret")
    monkeypatch.setenv("SEGMENTS_ALIEN_KEY", "secret")
    options = ("aws_region=x", "aws_access_key_id=x", "aws_secret_access_key=env:S3_KEY")
    bucket = ("--url", "s3://acme", *(word for each in options for word in ("--option", each)))
    named = ok("connection", "add", "x", "--org", ORG, *bucket)
    with closing(sqlite3.connect(tmp_path / "data/ledger.db")) as ledger:
        renamed = "replace(options, 'S3_KEY', 'SEGMENTS_BLOB_KEY')"
        ledger.execute(f"update base_connections set options = {renamed}")
        ledger.commit()

    monkeypatch.setenv("SEGMENTS_BLOB_KEY", "secret")
    there = ok("connection", "list")
    ok("connection", "remove", named.stdout.strip())
    gone = run("connection", "list")

    assert there.stdout
    assert there.stderr == "SEGMENTS_ALIEN_KEY: set, and no setting of this release\n"
    assert gone.exit_code == WRONG_SETTINGS
    assert gone.stderr == "SEGMENTS_BLOB_KEY: no setting; SEGMENTS_BLOB_URL may be meant\n"


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
