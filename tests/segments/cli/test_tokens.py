import json
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from segments.cli.ledger_access import NOT_IN_FORCE_YET
from tests.segments.cli.conftest import Command

HASH = "c160f8cc69a4f0bf2b0362752353d060"


@pytest.fixture
def ledger(ok: Command) -> Command:
    """Some accounts, two of the same name."""
    ok("account", "add", "--kind", "media_group", "--id", "g", "--name", "Group")
    ok("account", "add", "--kind", "publisher", "--id", "7", "--name", "Daily", "--parent", "g")
    ok("account", "add", "--kind", "advertiser", "--id", "7", "--name", "Shop")
    ok("account", "add", "--kind", "agency", "--id", "a", "--name", "Agency")
    ok("account", "add", "--kind", "advertiser", "--id", "s", "--name", "Sub", "--parent", "a")
    return ok


def pem(path: Path, bits: int = 2048) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, form))
    return path


def trail(ok: Command, *options: str, stdin: bytes | None = None) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for line in ok("audit", "export", *options, stdin=stdin).stdout.splitlines()
    ]


def test_token_is_shown_once_and_kept_as_its_hash(ledger: Command, tmp_path: Path) -> None:
    token = ledger("token", "create", "--note", "desk 7").stdout.strip()

    assert token.startswith("rtbp_")
    assert token not in ledger("token", "list").stdout
    for file in (tmp_path / "data").iterdir():
        assert token.encode() not in file.read_bytes()


def test_tokens_are_listed_with_their_category_and_revoked(ledger: Command) -> None:
    for options in ((), ("g", "--internal"), ("publisher:7",), ("advertiser:7",), ("a/s",)):
        ledger("token", "create", *(("--account", *options) if options else ()))
    ledger("token", "revoke", "2")

    rows = [line.split("\t") for line in ledger("token", "list").stdout.splitlines()]

    assert [(row[0], row[1], row[2], row[3], row[5]) for row in rows] == [
        ("1", "Global", "-", "-", "good"),
        ("2", "Media Group", "g", "internal", "revoked"),
        ("3", "Publisher", "7", "-", "good"),
        ("4", "Advertiser", "7", "-", "good"),
        ("5", "Advertiser", "s", "-", "good"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("create", "--account", "7"), "several accounts", id="two of the name"),
        pytest.param(("create", "--account", "nobody"), "no account nobody", id="nobody"),
        pytest.param(("create", "--account", "agency:g"), "no account agency:g", id="other kind"),
        pytest.param(("create", "--note", ""), "note of 0 characters", id="empty note"),
        pytest.param(("revoke", "1"), "no token 1", id="no such token"),
    ],
)
def test_what_cant_be_is_refused(
    ledger: Command, run: Command, arguments: tuple[str, ...], said: str
) -> None:
    result = run("token", *arguments)

    assert result.exit_code == 1
    assert said in result.stderr


def test_key_of_jwts_is_added_listed_and_removed(ledger: Command, tmp_path: Path) -> None:
    file = str(pem(tmp_path / "key.pub"))
    ledger(
        "key", "add", "--jwt", "Daily.example", file, "--kid", "key1", "--account", "publisher:7"
    )
    ledger("key", "add", "--jwt", "daily.example", file, "--kid", "key2", "--internal")

    listed = ledger("key", "list", "--jwt").stdout
    ledger("key", "remove", "--jwt", "daily.example", "key1")

    assert listed == (
        "daily.example\tkey1\tPublisher\t7\t-\ndaily.example\tkey2\tGlobal\t-\tinternal\n"
    )
    assert ledger("key", "list", "--jwt").stdout.split("\t")[1] == "key2"
    assert ledger("key", "list").stdout == ""
    # The name is free again.
    ledger("key", "add", "--jwt", "daily.example", file, "--kid", "key1")


def test_key_of_the_same_name_is_refused(ledger: Command, run: Command, tmp_path: Path) -> None:
    file = str(pem(tmp_path / "key.pub"))
    ledger("key", "add", "--jwt", "daily.example", file, "--kid", "key1")

    result = run("key", "add", "--jwt", "DAILY.example", file, "--kid", "key1")

    assert result.exit_code == 1
    assert "has a key key1 already" in result.stderr


def test_only_strong_public_rsa_keys_are_taken(run: Command, tmp_path: Path) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    other = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    weak = pem(tmp_path / "weak.pub", 1024).read_bytes()
    words = {b"text": "not the PEM", private: "private key", other: "not the PEM", weak: "2048"}

    for content, said in words.items():
        (tmp_path / "key").write_bytes(content)
        result = run("key", "add", "--jwt", "d.example", str(tmp_path / "key"), "--kid", "k")
        assert result.exit_code == 1
        assert said in result.stderr


def test_options_of_one_sort_of_key_are_none_of_the_other(run: Command, tmp_path: Path) -> None:
    file = str(pem(tmp_path / "key.pub"))

    assert run("key", "add", "--jwt", "d.example", file).exit_code == 2
    assert run("key", "add", "shop", file, "--kid", "k").exit_code == 2
    assert run("key", "add", "shop", file, "--internal").exit_code == 2


def test_trail_tells_who_did_what_and_of_a_person_to_whoever_knows_the_id(
    ledger: Command, run: Command
) -> None:
    ledger("token", "create", "--account", "publisher:7")
    for command in (("restrict", HASH), ("erase", "f1" * 16)):
        assert run(*command).exit_code == NOT_IN_FORCE_YET  # there is no store

    everything = trail(ledger)
    of_one = trail(ledger, "--about", "-", stdin=HASH.upper().encode() + b"\n")

    of_accounts, told = everything[:5], everything[5:]
    assert {line["what"] for line in of_accounts} == {"account add"}
    assert [(line["actor"], line["what"], line["scope"]) for line in told] == [
        ("command line", "token create", "publisher:7"),
        ("command line", "RESTRICT", "global"),
        ("command line", "ERASURE", "global"),
    ]
    assert of_one == told[1:2]
    assert HASH not in json.dumps(everything)
    assert trail(ledger, "--since", "2100-01-01") == []


def test_trail_of_what_is_no_id_is_refused_without_quoting_it(run: Command) -> None:
    result = run("audit", "export", "--about", "-", stdin=b"someone@example.com\n")

    assert result.exit_code == 1
    assert "line 1" in result.stderr
    assert "someone" not in result.stderr


def test_trail_cant_be_changed_by_whoever_has_the_file(ledger: Command, tmp_path: Path) -> None:
    ledger("token", "create", "--account", "publisher:7")

    with (
        sqlite3.connect(tmp_path / "data" / "ledger.db") as database,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        database.execute("delete from audit")
    database.close()
