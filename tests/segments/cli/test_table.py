"""Lists as people and programs read them."""

import asyncio
import json
from pathlib import Path

import pytest

from segments.ledger.audience_counts import keep_counts
from segments.ledger.database.engine import open_ledger
from segments.model.audience_count import AudienceCount
from segments.settings import Settings
from tests.engines import Engine
from tests.segments.cli.conftest import Command
from tests.segments.cli.test_accounts import add_partner
from tests.segments.cli.test_backup import deliver


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--partners"),
        ("account", "list"),
        ("account", "quota", "shop"),
        ("audience", "list"),
        ("recipient", "list"),
        ("recipient", "token", "list", "dsp-a"),
        ("user", "list"),
        ("key", "list"),
        ("key", "list", "--jwt"),
        ("token", "list"),
        ("org", "list"),
        ("connection", "list"),
    ],
    ids=" ".join,
)
def test_each_list_is_json_where_it_is_asked_for(ok: Command, words: tuple[str, ...]) -> None:
    add_partner(ok)
    ok("recipient", "add", "dsp-a")

    said = json.loads(ok(*words, "--json").stdout)

    assert isinstance(said, list)
    assert all(isinstance(row, dict) for row in said)


def test_status_names_the_partner_and_the_times_of_each_job(
    ok: Command, store: Engine, tmp_path: Path
) -> None:
    del store
    add_partner(ok)
    deliver(ok, tmp_path, rows=10)

    [job] = json.loads(ok("status", "--json").stdout)
    [partner] = json.loads(ok("status", "--partners", "--json").stdout)

    assert (job["partner"], job["state"], job["valid"]) == ("shop", "done", 10)
    assert job["received"] <= job["finished"]
    assert partner["partner"] == "shop"
    assert (partner["job"], partner["last_good_delivery"]) == (job["job"], job["finished"])
    assert (partner["waiting"], partner["held"], partner["failed"]) == (0, 0, 0)


def test_doctor_is_json_where_it_is_asked_for(run: Command) -> None:
    found = run("doctor", "--json")

    said = json.loads(found.stdout)
    assert found.exit_code == 1  # there is no store
    assert said["ok"] is False
    assert {each["grade"] for each in said["findings"]} >= {"ok", "FAIL"}


def test_audiences_are_listed_with_their_members_at_the_last_count(ok: Command) -> None:
    add_partner(ok)
    for segment in ("123", "456"):
        ok("audience", "add", segment, "--partner", "shop", "--name", "Shoes")

    async def count() -> None:
        async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
            for day, members in ((1, 70), (2, 80)):
                counted = AudienceCount(1, day, day * 86400.0, members, 3, {})
                await keep_counts(conn, [counted])

    asyncio.run(count())

    first, second = json.loads(ok("audience", "list", "--json").stdout)

    assert (first["members"], first["counted"]) == (80, "1970-01-03T00:00:00Z")
    assert (second["members"], second["counted"]) == (None, None)
