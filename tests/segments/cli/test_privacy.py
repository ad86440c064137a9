import asyncio
import sqlite3
from hashlib import md5, sha256
from pathlib import Path

import pytest

from segments.model.identity import Id, parse_id
from segments.model.record import EVERYONE, OptOut, OptOutAction, Record
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.refusals import REFUSALS
from tests.segments.cli.conftest import Command

ADA = md5(b"ada@example.com").hexdigest()
BOB = sha256(b"bob@example.com").hexdigest()
DEVICE = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
RESTRICTED = Record((OptOut(EVERYONE, OptOutAction.RESTRICT),))
ERASED = Record((OptOut(EVERYONE, OptOutAction.ERASURE),))


def records_of(store: Engine, *texts: str) -> list[Record]:
    ids: list[Id] = [parse_id(text)[1] for text in texts]

    async def read() -> list[Record]:
        async with connect(store.url) as client:
            return await read_records(client, await read_meta(client), ids)

    return asyncio.run(read())


def requests_in(tmp_path: Path) -> list[tuple[str, int, int]]:
    """Return of each request in the ledger: its action, how many ids, and whether it is applied."""
    with sqlite3.connect(tmp_path / "data" / "ledger.db") as ledger:
        rows = ledger.execute(
            "select r.action, count(i.id), r.applied_at_s is not null"
            " from data_subject_requests r join data_subject_ids i using (seq)"
            " group by r.seq order by r.seq"
        ).fetchall()
    ledger.close()
    return rows


def test_person_is_restricted_by_all_ids_when_the_command_ends(
    ok: Command, store: Engine, tmp_path: Path
) -> None:
    result = ok("restrict", ADA, f"ifa:{DEVICE}")

    assert records_of(store, ADA, DEVICE, BOB) == [RESTRICTED, RESTRICTED, Record()]
    assert requests_in(tmp_path) == [("RESTRICT", 2, 1)]
    assert result.stdout.startswith("RESTRICT ")


@pytest.mark.parametrize("command", ["restrict", "erase"])
def test_arguments_are_said_to_be_seen_by_others(ok: Command, store: Engine, command: str) -> None:
    """
    Anybody on the machine can list its processes; standard input they can't.
    """
    by_argument = ok(command, ADA)
    by_input = ok(command, "-", stdin=BOB.encode())

    assert "other users of this machine can see arguments" in by_argument.stderr
    assert "standard input" in by_argument.stderr
    assert ADA not in by_argument.stderr
    assert by_input.stderr == ""


def test_person_is_erased(ok: Command, store: Engine) -> None:
    ok("erase", BOB.upper())

    assert records_of(store, BOB) == [ERASED]


def test_lines_of_standard_input_are_persons(ok: Command, store: Engine, tmp_path: Path) -> None:
    ok("restrict", "-", stdin=f"\ufeff{ADA} {DEVICE}\r\n\n{BOB}".encode())

    assert records_of(store, ADA, DEVICE, BOB) == [RESTRICTED] * 3
    assert requests_in(tmp_path) == [("RESTRICT", 2, 1), ("RESTRICT", 1, 1)]


def test_file_of_many_persons_is_read(ok: Command, store: Engine, tmp_path: Path) -> None:
    hashes = [md5(str(n).encode()).hexdigest() for n in range(1500)]
    file = tmp_path / "persons.txt"
    file.write_text("\n".join(hashes))

    result = ok("erase", "--file", str(file))

    assert records_of(store, *hashes) == [ERASED] * len(hashes)
    assert len(set(result.stdout.splitlines())) == len(hashes)


def test_opt_out_that_could_only_be_recorded_has_an_exit_status_of_its_own(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_OPT_OUT_WAIT_S", "0.1")

    result = run("restrict", ADA)
    again = run("restrict", ADA)

    assert (result.exit_code, again.exit_code) == (3, 3)
    assert "recorded for good, and not in force yet" in result.stderr
    assert "as soon as it can write to the store" in result.stderr
    assert again.stdout == result.stdout, "the same transaction"
    assert requests_in(tmp_path) == [("RESTRICT", 1, 0)]


def test_same_command_says_0_once_what_was_recorded_is_in_force(
    run: Command, store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_OPT_OUT_WAIT_S", "0.1")
    with REFUSALS["NOREPLICAS"](store):
        told = run("erase", ADA)

    result = run("erase", ADA)

    assert (told.exit_code, result.exit_code) == (3, 0)
    assert result.stdout == told.stdout
    assert records_of(store, ADA) == [ERASED]
    assert requests_in(tmp_path) == [("ERASURE", 1, 1)]


@pytest.mark.parametrize(
    ("arguments", "stdin", "place"),
    [
        pytest.param((ADA, "planted@example.com"), None, "argument 2: ", id="an argument"),
        pytest.param(
            ("-",), f"{ADA}\n{ADA} planted@example.com\n".encode(), "line 2, id 2: ", id="a line"
        ),
        pytest.param(("-",), b"planted\xff\n", "line 1 is not UTF-8", id="bytes that are no text"),
        pytest.param(("-",), b"\n", "no id was given", id="nothing but blanks"),
    ],
)
def test_what_is_no_id_is_told_by_its_place_and_nothing_is_recorded(
    run: Command,
    store: Engine,
    arguments: tuple[str, ...],
    stdin: bytes | None,
    place: str,
) -> None:
    result = run("restrict", *arguments, stdin=stdin)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {place}")
    assert "planted" not in result.output
    assert records_of(store, ADA) == [Record()]
    assert requests_in(Path()) == []


@pytest.mark.parametrize(
    "arguments",
    [pytest.param((), id="nobody"), pytest.param((ADA, "--file", "/dev/null"), id="two sources")],
)
def test_it_must_be_clear_whom_it_is_about(run: Command, arguments: tuple[str, ...]) -> None:
    assert run("restrict", *arguments).exit_code == 2
