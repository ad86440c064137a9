"""`import`: what it adds, and what it says of files that it does not take."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from segments.ledger import users
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.users import User
from segments.settings import Settings
from tests.segments.cli.conftest import Command

ACCOUNTS = """\
kind,id,name,parent,segtax
advertiser,shop-north,Shop North,agency-a,
agency,agency-a,"Agency A, Ltd",,600
publisher,news,News,,
"""
USERS = """\
username,partner,sub_id,admin
ann@agency-a.example,agency-a,,yes
bob@shop.example,agency-a,shop-north,no
"""
AUDIENCES = """\
segment_id,partner,sub_id,name,ttl_days
123,agency-a,shop-north,Shoes,30
124,agency-a,,Hats,
"""

Write = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files, named a.csv, b.csv and so on; returns their names."""

    def write_files(*contents: str) -> list[str]:
        names = [f"{letter}.csv" for letter, _ in zip("abc", contents, strict=False)]
        for name, content in zip(names, contents, strict=True):
            (tmp_path / name).write_text(content, encoding="utf-8")
        return names

    return write_files


def rows(ok: Command, *words: str) -> list[dict[str, object]]:
    return list(json.loads(ok(*words, "--json").stdout))


def stored(username: str) -> User:
    async def ask() -> User:
        async with open_ledger(Settings().ledger_dsn) as ledger, reading(ledger) as conn:
            return await users.user(conn, username)

    return asyncio.run(ask())


def test_accounts_users_and_audiences_are_added_whatever_their_order(
    ok: Command, write: Write
) -> None:
    done = ok("import", "--json", *write(USERS, AUDIENCES, ACCOUNTS))

    assert "added 3 accounts, 2 users, 2 audiences" in done.stderr
    added = {row["id"]: row for row in rows(ok, "account", "list")}
    assert set(added) == {"shop-north", "agency-a", "news"}
    assert added["shop-north"]["parent"] == "agency-a"
    assert (added["agency-a"]["segtax"], added["agency-a"]["name"]) == (600, "Agency A, Ltd")
    audiences = {row["segment"]: row for row in rows(ok, "audience", "list")}
    assert (audiences["123"]["owner"], audiences["123"]["ttl_days"]) == ("shop-north", 30)
    assert audiences["124"]["owner"] == "agency-a"
    passwords = {row["user"]: row["password"] for row in json.loads(done.stdout)}
    assert len(set(passwords.values())) == 2
    for username, password in passwords.items():
        user = stored(username)
        assert PasswordHasher().verify(user.password_hash, password)
        assert user.must_change
        assert user.is_admin == username.startswith("ann")


def test_dry_run_adds_nothing(ok: Command, write: Write) -> None:
    done = ok("import", "--dry-run", *write(ACCOUNTS, USERS, AUDIENCES))

    assert "would add 3 accounts, 2 users, 2 audiences" in done.stdout
    assert rows(ok, "account", "list") == rows(ok, "user", "list") == []
    assert ok("audit", "export").stdout == ""


def test_all_that_the_ledger_refuses_is_named_at_once_and_nothing_is_added(
    ok: Command, run: Command, write: Write
) -> None:
    accounts = f"""\
kind,id,name,parent,segtax
agency,well,Well,,
agency,a,A,,
agency,a,B,,
advertiser,b,B,gone,
agency,long,{"A" * 257},,
publisher,p,P,,4
"""
    users = "username,partner,sub_id\nann,gone,\nbob,well,gone\nann,well,\nann,well,\n"
    audiences = "segment_id,partner,name,ttl_days\n1,well,A,99999\n"

    result = run("import", *write(accounts, users, audiences))

    assert result.exit_code == 1
    *faults, end = result.stderr.splitlines()
    assert [fault.partition(": ")[0] for fault in faults] == [
        "a.csv, line 4, column id",
        "a.csv, line 5, column parent",
        "a.csv, line 6, column name",
        "a.csv, line 7, column segtax",
        "b.csv, line 2, column partner",
        "b.csv, line 3, column sub_id",
        "b.csv, line 5, column username",
        "c.csv, line 2, column ttl_days",
    ]
    assert end == "Error: 8 faults; nothing was added"
    assert rows(ok, "account", "list") == []
