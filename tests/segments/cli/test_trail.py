"""Whatever an operator does by the command line stands in the audit trail, or was not done."""

import json
from pathlib import Path

import pytest
from click.testing import Result

from segments.cli.ledger_access import NOT_IN_FORCE_YET
from tests.segments.cli.conftest import Command
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    metadata_of,
    text_of,
)
from tests.sftp import new_key

HASHES = email_hashes(50)


@pytest.fixture
def ok(run: Command) -> Command:
    """
    Run a command that does what it is told, where there is no store to show it.

    What is to be less is only recorded there, and stands in the trail all the same.
    """

    def run_well(*arguments: str, stdin: bytes | None = None) -> Result:
        result = run(*arguments, stdin=stdin)
        assert result.exit_code in (0, NOT_IN_FORCE_YET), result.output
        return result

    return run_well


def entries(ok: Command) -> list[tuple[str, str, str, dict[str, object]]]:
    """Return of each row: actor, what, target, detail."""
    lines = map(json.loads, ok("audit", "export").stdout.splitlines())
    return [
        (line["actor"], line["what"], line.get("target"), line.get("detail", {})) for line in lines
    ]


def whats(ok: Command) -> list[str]:
    return [what for _, what, _, _ in entries(ok)]


def add(ok: Command, kind: str, public_id: str) -> None:
    ok("account", "add", "--kind", kind, "--id", public_id, "--name", public_id)


def test_accounts_and_relations(ok: Command) -> None:
    add(ok, "publisher", "7")
    add(ok, "advertiser", "shop")
    ok("account", "relate", "7", "shop")
    ok("account", "unrelate", "7", "shop")
    ok("account", "deactivate", "shop")
    ok("account", "activate", "shop")

    assert entries(ok)[1:] == [
        (
            "command line",
            "account add",
            "shop",
            {"kind": "advertiser", "name": "shop", "parent": None, "segtax": None},
        ),
        ("command line", "account relate", "shop", {"publisher": "7"}),
        ("command line", "account unrelate", "shop", {"publisher": "7"}),
        ("command line", "account deactivate", "shop", {}),
        ("command line", "account activate", "shop", {}),
    ]


def test_recipients_and_grants(ok: Command) -> None:
    add(ok, "advertiser", "shop")
    ok("recipient", "add", "dsp-a", "--partner", "shop", "--hold-out", "0.1")
    ok("recipient", "hold-out", "dsp-a", "0.2")
    ok("recipient", "revoke", "dsp-a", "shop")
    ok("recipient", "grant", "dsp-a", "shop")
    ok("recipient", "deactivate", "dsp-a")

    assert entries(ok)[1:] == [
        ("command line", "recipient add", "dsp-a", {"hold_out": 0.1}),
        ("command line", "recipient grant", "dsp-a", {"partner": "shop"}),
        ("command line", "recipient hold-out", "dsp-a", {"before": 0.1, "after": 0.2}),
        ("command line", "recipient revoke", "dsp-a", {"partner": "shop"}),
        ("command line", "recipient grant", "dsp-a", {"partner": "shop"}),
        ("command line", "recipient deactivate", "dsp-a", {}),
    ]


def test_tokens_and_certificates_of_recipients_without_what_they_are(ok: Command) -> None:
    ok("recipient", "add", "dsp-a")
    secrets = [
        ok("recipient", "token", "issue", "dsp-a", "--not-needed-yet").stdout.strip(),
        ok("recipient", "token", "rotate", "dsp-a").stdout.strip(),
    ]
    ok("recipient", "token", "need", "dsp-a")
    ok("recipient", "token", "revoke", "dsp-a", "1")
    ok("recipient", "token", "waive", "dsp-a")
    ok("recipient", "certificate", "dsp-a", "--san", "dns:b.example", "--san", "dns:a.example")
    ok("recipient", "certificate", "dsp-a", "--none")

    assert entries(ok)[1:] == [
        ("command line", "recipient token issue", "dsp-a", {"token": 1, "needed": False}),
        ("command line", "recipient token rotate", "dsp-a", {"token": 2}),
        ("command line", "recipient token need", "dsp-a", {}),
        ("command line", "recipient token revoke", "dsp-a", {"token": 1}),
        ("command line", "recipient token waive", "dsp-a", {}),
        (
            "command line",
            "recipient certificate",
            "dsp-a",
            {"names": "dns:a.example, dns:b.example"},
        ),
        ("command line", "recipient certificate", "dsp-a", {"names": None}),
    ]
    assert not any(secret in ok("audit", "export").stdout for secret in secrets)


def test_users_and_keys_without_their_secrets(ok: Command, tmp_path: Path) -> None:
    add(ok, "advertiser", "shop")
    password = b"correct horse battery\n"
    ok("user", "add", "jane", "--partner", "shop", "--password-stdin", stdin=password)
    ok("user", "password", "jane", "--password-stdin", stdin=password)
    ok("user", "admin", "jane")
    ok("user", "admin", "jane")  # changes nothing
    ok("user", "admin", "jane", "--off")
    ok("user", "revoke", "jane")
    (tmp_path / "key.pub").write_bytes(new_key(tmp_path / "key"))
    said = ok("key", "add", "shop", "key.pub").stdout
    fingerprint = said.split()[-1]
    ok("key", "remove", "shop", fingerprint)

    assert entries(ok)[1:] == [
        ("command line", "user add", "jane", {}),
        ("command line", "user password", "jane", {}),
        ("command line", "user admin", "jane", {"admin": True}),
        ("command line", "user admin", "jane", {"admin": False}),
        ("command line", "user revoke", "jane", {}),
        ("command line", "ssh key add", "shop", {"fingerprint": fingerprint}),
        ("command line", "ssh key remove", "shop", {"fingerprint": fingerprint}),
    ]
    assert "horse" not in ok("audit", "export").stdout


def test_staff_without_passwords(ok: Command) -> None:
    password = b"correct horse battery\n"
    roles = ("--role", "operator", "--role", "privacy")
    ok("staff", "add", "Ada", *roles, "--password-stdin", stdin=password)
    ok("staff", "password", "ada", "--new-code", "--password-stdin", stdin=password)
    ok("staff", "revoke", "ada")

    assert entries(ok) == [
        ("command line", "staff add", "ada", {"roles": "operator privacy", "account": None}),
        ("command line", "staff password", "ada", {"forgets_code": True}),
        ("command line", "staff revoke", "ada", {}),
    ]
    assert "horse" not in ok("audit", "export").stdout


def test_orgs_and_connections_without_their_secrets(ok: Command, tmp_path: Path) -> None:
    add(ok, "advertiser", "shop")
    said = ok("org", "add", "1@AdobeOrg", "--partner", "shop").stdout
    api_key, token = (line.split("\t")[1] for line in said.splitlines())
    url = (tmp_path / "planted").as_uri()
    connection = ok("connection", "add", "crm", "--org", "1@AdobeOrg", "--url", url).stdout.strip()
    ok("connection", "remove", connection)
    ok("org", "revoke", api_key)

    of_org = {"sandbox": "prod", "api_key": api_key}
    of_connection = {"name": "crm", "org": "1@AdobeOrg", "sandbox": "prod"}
    assert entries(ok)[1:] == [
        ("command line", "org add", "1@AdobeOrg", {**of_org, "user": "operator"}),
        ("command line", "connection add", connection, of_connection),
        ("command line", "connection remove", connection, of_connection),
        ("command line", "org revoke", "1@AdobeOrg", of_org),
    ]
    exported = ok("audit", "export").stdout
    assert token not in exported
    assert "planted" not in exported


@pytest.mark.parametrize(
    ("arguments", "what"), [((), "job release"), (("--refuse",), "job refuse")]
)
def test_held_job_that_is_released_or_refused(
    run: Command,
    ok: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    what: str,
) -> None:
    monkeypatch.setenv("SEGMENTS_REMOVE_BRAKE_SHARE", "0.5")
    add(ok, "advertiser", PARTNER_ID)
    for count, action in ((50, "add"), (30, "remove")):
        content = text_of(HASHES[:count])
        (tmp_path / "file").write_bytes(content)
        metadata = metadata_of(content, records=count, segments=[("1", action)])
        (tmp_path / "file.json").write_bytes(as_json(metadata))
        run("load", "file", "--metadata", "file.json")

    ok("release", "2", *arguments)
    again = run("release", "2", *arguments)

    *_, (actor, done, target, detail) = entries(ok)
    assert (actor, done, target) == ("command line", what, "job 2")
    assert "60%" in str(detail["held_because"])
    assert again.exit_code == 1
    assert whats(ok).count(what) == 1  # what was refused was not done


def test_audiences(ok: Command) -> None:
    add(ok, "advertiser", "shop")
    of_shop = ("--partner", "shop")
    ok("audience", "add", "123", *of_shop, "--name", "Shoes")
    ok("audience", "ttl", "123", "30", *of_shop)
    ok("audience", "window", "123", *of_shop, "--from", "2026-01-01")
    ok("audience", "delete", "123", *of_shop, "--yes")

    assert [entry[1:] for entry in entries(ok)[1:]] == [
        ("audience add", "audience 1", {"segment": "123", "name": "Shoes", "ttl_days": None}),
        ("audience ttl", "audience 1", {"segment": "123", "before": None, "after": 30}),
        (
            "audience window",
            "audience 1",
            {"segment": "123", "from_s": 1767225600, "until_s": None},
        ),
        ("audience delete", "audience 1", {"segment": "123"}),
    ]


def test_act_that_is_refused_leaves_no_row(run: Command, ok: Command) -> None:
    add(ok, "advertiser", "shop")

    assert run("account", "unrelate", "7", "shop").exit_code == 1
    assert run("recipient", "grant", "nobody", "shop").exit_code == 1

    assert whats(ok) == ["account add"]


def test_relations_are_listed_on_both_sides(ok: Command) -> None:
    add(ok, "publisher", "7")
    add(ok, "advertiser", "shop")
    add(ok, "advertiser", "other")
    ok("account", "relate", "7", "shop")

    related = [line.split("\t")[5] for line in ok("account", "list").stdout.splitlines()]
    ok("account", "unrelate", "7", "shop")
    parted = [line.split("\t")[5] for line in ok("account", "list").stdout.splitlines()]

    assert related == ["shop", "7", "-"]
    assert parted == ["-", "-", "-"]
