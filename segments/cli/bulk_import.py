"""
The command `import`: accounts, users and audiences from CSV files, in one transaction.

The rows are added twice: first in a transaction that is rolled back, which finds every refused row,
then for good. Passwords are hashed in between, because that takes longer than a writer may hold the
ledger.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import accounts as account_acts
from segments.acts import audiences as audience_acts
from segments.acts import logins
from segments.acts.trail import By
from segments.cli.import_file import Fault, Row, Subject, read_rows
from segments.cli.ledger_access import by_command, change, keep
from segments.cli.table import json_option, print_table
from segments.doors.rest.passwords import Passwords, drawn_password
from segments.ledger import accounts
from segments.ledger.checked_text import UnusableText
from segments.model.quota import OverQuota
from segments.model.refusal import Duplicate, Refusal

_TEXT_TO_COLUMN: Final = {"segment id": "segment_id", "segment name": "name"}


class _Refused(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class _RolledBack(Exception):
    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


@click.command("import")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--dry-run", is_flag=True, help="Find all faults, and add nothing.")
@json_option
def import_(files: tuple[Path, ...], dry_run: bool) -> None:
    """
    Add accounts, users and audiences from CSV files: all of them, or none.

    The first line of a file names its columns: kind,id,name and perhaps parent,segtax of accounts;
    username,partner and perhaps sub_id,admin (yes or no) of users; segment_id,partner,name and
    perhaps sub_id,ttl_days of audiences. Accounts are added first, whatever the order of FILEs.

    Passwords of users are generated, and printed once; the console asks each user for another.

    Each fault is reported with its line and column, and the exit status is 1.
    """
    rows, faults = _read(files)
    _stop_at(faults)
    _stop_at(_refused_by_ledger(rows))
    if dry_run:
        click.echo(f"nothing is wrong; this would add {_counted(rows)}")
        return
    passwords = {
        row.cells["username"]: drawn_password() for row in rows if row.subject is Subject.USERS
    }
    hashes = asyncio.run(_hashed(passwords))

    async def add(conn: AsyncConnection) -> str:
        _stop_at(await _add_all(conn, rows, hashes))
        return f"added {_counted(rows)}"

    def show() -> None:
        print_table(("user", "password"), list(passwords.items()))

    change(add, committed=show)


def _read(files: Sequence[Path]) -> tuple[list[Row], list[Fault]]:
    rows: list[Row] = []
    faults: list[Fault] = []
    for file in dict.fromkeys(files):
        found, wrong = read_rows(file)
        rows += found
        faults += wrong
    subjects = list(Subject)
    # An account's parent may come after it.
    rows.sort(key=lambda row: (subjects.index(row.subject), bool(row.cells.get("parent"))))
    return rows, faults


def _refused_by_ledger(rows: Sequence[Row]) -> list[Fault]:
    no_hash = {row.cells["username"]: "" for row in rows if row.subject is Subject.USERS}

    async def add_and_roll_back(conn: AsyncConnection) -> str:
        raise _RolledBack(await _add_all(conn, rows, no_hash))

    try:
        keep(add_and_roll_back)
    except _RolledBack as done:
        return done.faults
    raise AssertionError("the transaction was rolled back")


async def _hashed(passwords: Mapping[str, str]) -> dict[str, str]:
    made = Passwords()
    return {username: await made.hash(password) for username, password in passwords.items()}


async def _add_all(
    conn: AsyncConnection, rows: Sequence[Row], hashes: Mapping[str, str]
) -> list[Fault]:
    by, faults = by_command(), []
    for row in rows:
        try:
            if row.subject is Subject.ACCOUNTS:
                await _add_account(conn, by, row)
            elif row.subject is Subject.USERS:
                await _add_user(conn, by, row, hashes[row.cells["username"]])
            else:
                await _add_audience(conn, by, row)
        except _Refused as refused:
            faults.append(refused.fault)
    return faults


async def _add_account(conn: AsyncConnection, by: By, row: Row) -> None:
    cells, parent = row.cells, None
    if cells["parent"] is not None:
        with _faults_in(row, "parent"):
            parent = await accounts.possible_parent(conn, cells["kind"], cells["parent"])
    with _faults_in(row, "segtax", key="id"):
        await account_acts.add_account(
            conn,
            by,
            cells["kind"],
            cells["id"],
            cells["name"],
            parent=parent,
            segtax=cells["segtax"],
        )


async def _add_user(conn: AsyncConnection, by: By, row: Row, password_hash: str) -> None:
    cells = row.cells
    with _faults_in(row, "partner" if cells["sub_id"] is None else "sub_id"):
        account = await accounts.partner(conn, cells["partner"], cells["sub_id"])
    with _faults_in(row, "partner", key="username"):
        await logins.add_user(
            conn,
            by,
            cells["username"],
            account,
            password_hash,
            is_admin=bool(cells["admin"]),
            must_change=True,
        )


async def _add_audience(conn: AsyncConnection, by: By, row: Row) -> None:
    cells = row.cells
    with _faults_in(row, "partner"):
        partner = owner = await accounts.partner(conn, cells["partner"])
    if cells["sub_id"] is not None:
        with _faults_in(row, "sub_id"):
            owner = await accounts.partner(conn, cells["partner"], cells["sub_id"])
    with _faults_in(row, "segment_id" if cells["ttl_days"] is None else "ttl_days"):
        await audience_acts.add_audience(
            conn,
            by,
            owner,
            partner,
            cells["segment_id"],
            cells["name"],
            ttl_days=cells["ttl_days"],
        )


@contextmanager
def _faults_in(row: Row, column: str, *, key: str | None = None) -> Iterator[None]:
    """Raise `_Refused` for a refusal, with the refusal's own column, or else with `column`."""
    try:
        yield
    except UnusableText as refusal:
        of_text = _TEXT_TO_COLUMN.get(refusal.what, refusal.what)
        raise _Refused(row.fault(of_text, str(refusal))) from None
    except Duplicate as refusal:
        raise _Refused(row.fault(key or column, str(refusal))) from None
    except (Refusal, OverQuota) as refusal:
        raise _Refused(row.fault(column, str(refusal))) from None


def _stop_at(faults: Sequence[Fault]) -> None:
    """
    Report faults.

    Raises:
        ClickException: There are any; nothing was added.
    """
    if faults:
        for fault in sorted(faults, key=lambda each: (str(each.file), each.line)):
            click.echo(str(fault), err=True)
        many = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
        raise click.ClickException(f"{many}; nothing was added")


def _counted(rows: Sequence[Row]) -> str:
    counts = Counter(row.subject for row in rows)
    return ", ".join(f"{counts[each]:,} {each.value}" for each in Subject)
