import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from segments.model.catalog import CatalogSnapshot
from segments.store.reader import read_catalog
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.segments.cli.conftest import Command


def catalog_of(store: Engine) -> CatalogSnapshot:
    async def read() -> CatalogSnapshot:
        async with connect(store.url) as client:
            return await read_catalog(client)

    return asyncio.run(read())


def add_partner(ok: Command, public_id: str = "shop") -> None:
    ok("account", "add", "--kind", "advertiser", "--id", public_id, "--name", "Shop")


def test_each_change_is_in_the_store_when_its_command_ends(ok: Command, store: Engine) -> None:
    add_partner(ok)
    ok("audience", "add", "123", "--partner", "shop", "--name", "Shoes", "--ttl-days", "30")
    ok("recipient", "add", "dsp-a", "--partner", "shop", "--hold-out", "0.1")
    before = catalog_of(store)

    ok("audience", "deactivate", "123", "--partner", "shop")
    ok("recipient", "revoke", "dsp-a", "shop")
    ok("account", "deactivate", "shop")
    after = catalog_of(store)

    assert [(a.segment_id, a.is_active) for a in before.audiences] == [("123", True)]
    assert [(r.name, len(r.partner_ids), r.hold_out) for r in before.recipients] == [
        ("dsp-a", 1, 0.1)
    ]
    assert [a.is_active for a in before.accounts] == [True]
    assert [a.is_active for a in after.audiences] == [False]
    assert [r.partner_ids for r in after.recipients] == [()]
    assert [a.is_active for a in after.accounts] == [False]


def test_what_was_switched_off_can_be_switched_on_again(ok: Command, store: Engine) -> None:
    add_partner(ok)
    ok("audience", "add", "123", "--partner", "shop", "--name", "Shoes")
    ok("recipient", "add", "dsp-a")

    ok("account", "deactivate", "shop")
    ok("account", "activate", "shop")
    ok("audience", "deactivate", "123", "--partner", "shop")
    ok("audience", "activate", "123", "--partner", "shop")
    ok("recipient", "deactivate", "dsp-a")
    off = catalog_of(store)
    ok("recipient", "activate", "dsp-a")
    ok("recipient", "grant", "dsp-a", "shop")
    ok("recipient", "hold-out", "dsp-a", "0.5")
    on = catalog_of(store)

    assert [recipient.is_active for recipient in off.recipients] == [False]
    assert [(r.is_active, r.hold_out, len(r.partner_ids)) for r in on.recipients] == [
        (True, 0.5, 1)
    ]
    assert on.accounts[0].is_active
    assert on.audiences[0].is_active


def test_ttl_is_set_and_taken_away(ok: Command) -> None:
    add_partner(ok)
    ok("audience", "add", "123", "--partner", "shop", "--name", "Shoes")

    def listed() -> str:
        return ok("audience", "list").stdout.split("\t")[6]

    ok("audience", "ttl", "123", "30", "--partner", "shop")
    assert listed() == "30"
    # Adding it once more without a TTL is not taking the TTL away.
    ok("audience", "add", "123", "--partner", "shop", "--name", "Shoes")
    assert listed() == "30"
    ok("audience", "ttl", "123", "--partner", "shop")
    assert listed() == "-"


def test_window_is_in_utc_unless_it_says_otherwise(ok: Command, store: Engine) -> None:
    add_partner(ok)
    ok("audience", "add", "123", "--partner", "shop", "--name", "Shoes")

    result = ok(
        *("audience", "window", "123", "--partner", "shop"),
        *("--from", "2026-01-01", "--until", "2026-01-01T02:00:00+01:00"),
    )

    entry = catalog_of(store).audiences[0]
    assert (entry.live_from_s, entry.live_until_s) == (1_767_225_600, 1_767_225_600 + 3600)
    assert "from 2026-01-01T00:00:00+00:00 until 2026-01-01T01:00:00+00:00" in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        "audience delete 123 --partner shop --yes",
        "audience deactivate 123 --partner shop",
        "audience window 123 --partner shop --until 2026-01-01",
        "recipient revoke dsp-a shop",
        "recipient deactivate dsp-a",
        "account deactivate shop",
        "account relate pub shop",
    ],
)
def test_what_is_forbidden_and_can_not_be_published_is_only_recorded(
    ok: Command, run: Command, command: str
) -> None:
    add_partner(ok)
    ok("account", "add", "--kind", "publisher", "--id", "pub", "--name", "Pub")
    ok("audience", "add", "123", "--partner", "shop", "--name", "Shoes")
    ok("recipient", "add", "dsp-a", "--partner", "shop")

    result = run(*command.split())

    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("recorded: ")
    assert "Not in force yet" in result.stderr


def test_deleted_segment_can_be_used_anew_and_is_listed_twice(ok: Command, store: Engine) -> None:
    add_partner(ok)
    for _ in range(2):
        ok("audience", "add", "123", "--partner", "shop", "--name", "Shoes")
        ok("audience", "delete", "123", "--partner", "shop", "--yes")

    listed = ok("audience", "list", "--partner", "shop").stdout.splitlines()

    assert [line.split("\t")[2:4] for line in listed] == [["123", "deleted"]] * 2


def test_lists_say_what_there_is_by_the_names_that_people_use(ok: Command, store: Engine) -> None:
    ok("account", "add", "--kind", "media_group", "--id", "g", "--name", "Group")
    ok("account", "add", "--kind", "publisher", "--id", "p", "--name", "Pub", "--parent", "g")
    ok("account", "add", "--kind", "agency", "--id", "a", "--name", "Agency", "--segtax", "4")
    ok("account", "add", "--kind", "advertiser", "--id", "s", "--name", "Sub", "--parent", "a")
    ok("account", "relate", "p", "a", "--sub-id", "s")
    ok("audience", "add", "9", "--partner", "a", "--sub-id", "s", "--name", "Hats")
    ok("recipient", "add", "dsp-a", "--partner", "a")
    ok("recipient", "add", "dsp-b")

    assert ok("account", "list").stdout.splitlines() == [
        "media_group\tg\t-\t-\tactive\t-\tGroup",
        "publisher\tp\tg\t-\tactive\ts\tPub",
        "agency\ta\t-\t4\tactive\t-\tAgency",
        "advertiser\ts\ta\t-\tactive\tp\tSub",
    ]
    assert ok("audience", "list").stdout == "a\ts\t9\tactive\t-\t-\t-\tHats\t-\t-\n"
    assert ok("recipient", "list").stdout.splitlines() == [
        "dsp-a\t0\tactive\ta\t-\t-",
        "dsp-b\t0\tactive\t-\t-\t-",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            "account add --kind advertiser --id shop --name x",
            "there is a partner shop already",
            id="partner twice",
        ),
        pytest.param(
            "account add --kind advertiser --id x --name x --parent y",
            "there is no advertiser or agency or media group y",
            id="unknown parent",
        ),
        pytest.param("account relate p shop", "there is no publisher p", id="unknown publisher"),
        pytest.param("recipient add d --partner x", "there is no partner x", id="unknown partner"),
        pytest.param("recipient grant d shop", "there is no recipient d", id="unknown recipient"),
        pytest.param(
            "audience deactivate 9 --partner shop", "shop has no audience 9", id="unknown segment"
        ),
        pytest.param(
            "audience list --partner shop --sub-id x",
            "partner shop has no sub account x",
            id="unknown sub account",
        ),
    ],
)
def test_refusal_is_one_line_with_status_1(
    ok: Command, run: Command, arguments: str, expected: str
) -> None:
    add_partner(ok)

    result = run(*arguments.split())

    assert (result.exit_code, result.stderr) == (1, f"Error: {expected}\n")


def test_refused_command_changes_nothing(ok: Command, run: Command) -> None:
    add_partner(ok)

    run("recipient", "add", "dsp-a", "--partner", "shop", "--partner", "nobody")

    assert ok("recipient", "list").stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param("account add --kind king --id x --name x", id="no such kind"),
        pytest.param("audience window 9 --partner x --from noon", id="no such moment"),
        pytest.param("audience list --sub-id x", id="a sub account of whom"),
    ],
)
def test_argument_that_can_not_be_meant_ends_with_status_2(run: Command, arguments: str) -> None:
    assert run(*arguments.split()).exit_code == 2


def test_change_is_kept_when_the_store_is_not_running(ok: Command) -> None:
    add_partner(ok)

    result = ok("recipient", "add", "dsp-a", "--partner", "shop")

    assert result.stderr == (
        "not published yet: the store is not running or can't be reached."
        " The loader publishes it when it can.\n"
    )
    assert ok("recipient", "list").stdout == "dsp-a\t0\tactive\tshop\t-\t-\n"


def test_store_of_nobody_is_not_written(
    ok: Command, valkey: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_REDIS_URL", valkey.url)

    result = ok("account", "add", "--kind", "agency", "--id", "a", "--name", "A")

    assert "seg:1:meta" in result.stderr
    with redis.Redis.from_url(valkey.url) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize(
    ("variable", "expected", "status"),
    [
        pytest.param(
            "SEGMENTS_EXPECTED_IDS=many",
            "SEGMENTS_EXPECTED_IDS=many: not a whole number\n",
            2,
            id="wrong setting",
        ),
        pytest.param(
            "SEGMENTS_DATA_DIR=/dev/null",
            "Error: ledger /dev/null/ledger.db: its directory is a file\n",
            1,
            id="data directory that is none",
        ),
    ],
)
def test_process_that_can_not_start_says_why_in_one_line(
    tmp_path: Path, variable: str, expected: str, status: int
) -> None:
    name, value = variable.split("=")
    ended = subprocess.run(
        [sys.executable, "-m", "segments", "account", "list"],
        env={**os.environ, "SEGMENTS_DATA_DIR": str(tmp_path), name: value},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (status, expected)
