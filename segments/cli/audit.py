"""The command `audit`: exports the trail of who did what with whose data."""

import sys
import time
from datetime import UTC, datetime
from typing import Any, BinaryIO

import click
import orjson

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import run
from segments.doors.privacy.report import iso
from segments.ledger import accounts
from segments.ledger.database.engine import existing_ledger, reading
from segments.ledger.privacy.audit import Actor, digest_of, entries
from segments.model.account import Account
from segments.model.identity import Id, UnusableId, parse_id


@click.group("audit")
def audit() -> None:
    """Read the audit trail: who did what with whose data, and the result."""


@audit.command("export")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]),
    help="Print only entries from this time on, in UTC.",
)
@click.option(
    "--about",
    type=click.File("rb"),
    help="Print only entries on the ids in this file, one per line; - is standard input.",
)
def export(since: datetime | None, about: BinaryIO | None) -> None:
    """
    Print the trail, a JSON object per line, oldest first.

    Entries hold ids only as digests with a salt that is not exported. --about
    finds the entries on a known id; no digest leads back to an id.
    """
    settings = control_settings()
    since_s = 0.0 if since is None else since.replace(tzinfo=UTC).timestamp()
    ids = None if about is None else [_id(n, line) for n, line in enumerate(about, 1)]

    async def print_all() -> None:
        async with existing_ledger(settings.ledger_dsn) as ledger:
            wanted = None
            if ids is not None:
                async with ledger.begin() as conn:
                    now_s = time.time()
                    wanted = {await digest_of(conn, id_, now_s=now_s) for id_ in ids}
            async with reading(ledger) as conn:
                id_to_account = {account.id: account for account in await accounts.accounts(conn)}
                async for row in entries(conn, since_s=since_s):
                    if wanted is None or wanted & set(row["subjects"]):
                        sys.stdout.buffer.write(orjson.dumps(_line(row, id_to_account)) + b"\n")
        sys.stdout.flush()

    run(print_all())


def _id(number: int, line: bytes) -> Id:
    try:
        return parse_id(line.decode().strip())[1]
    except UnusableId as error:
        raise click.ClickException(f"line {number}: {error}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"line {number} is not UTF-8") from None


def _line(row: dict[str, Any], id_to_account: dict[int, Account]) -> dict[str, Any]:
    account_id, scope_id = row.pop("account_id", None), row.pop("scope_id", None)
    line = {"id": row.pop("id"), "at": iso(row.pop("at_s")), **row}
    if row["actor"] in (Actor.TOKEN, Actor.KEY):
        line["account"] = _account(id_to_account, account_id)
    if row["result"] == "done" and row["actor"] != Actor.UNKNOWN:
        line["scope"] = _account(id_to_account, scope_id)
    return line


def _account(id_to_account: dict[int, Account], account_id: int | None) -> str:
    if account_id is None:
        return "global"
    account = id_to_account[account_id]
    return f"{account.kind.value}:{account.public_id}"
