"""
The commands `restrict` and `erase`: opt-outs, recorded and put into force.

    0   no bid that begins now shows the person
    3   recorded for good, but not in force yet: `segments.projection.in_force`

Ids in arguments show in the machine's process list, and stay in the shell's history. So ids can
also come from a file or `-`, and arguments cause a note. Messages quote an id's position only.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

import click

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import NOT_IN_FORCE_YET, ledger_to_write, run
from segments.model.identity import Id, IdentifierKind, UnusableId, parse_id
from segments.model.record import OptOutAction
from segments.projection.in_force import Receipt, until_applied
from segments.projection.opt_outs import record_opt_outs
from segments.store.servers.connection import connect

_Person = list[tuple[IdentifierKind, Id]]

_PERSONS_AT_ONCE = 1000

_SEEN_BY_OTHERS = (
    "note: other users of this machine can see arguments, and the shell's history keeps them;"
    " with - in their place ids are read from standard input"
)


def _ids_of_persons(command: Callable[..., None]) -> Callable[..., None]:
    command = click.argument("ids", nargs=-1, metavar="[ID]...")(command)
    return click.option(
        "--file",
        "file",
        type=click.File("rb"),
        help="Read persons from a file: a person per line, ids separated by blanks.",
    )(command)


@click.command()
@_ids_of_persons
def restrict(ids: tuple[str, ...], file: BinaryIO | None) -> None:
    """
    Never enrich bids for a person again; the memberships stay, hidden.

    All IDs belong to one person: an e-mail hash (MD5, SHA-1 or SHA-256 in hex),
    a device id, or email:HASH, phone:HASH, duid:TEXT, ifa:UUID, eid:SOURCE:UID.
    Other users of this machine can see arguments; with - the command reads
    standard input instead, in the format of --file.

    Exit status 3: recorded, but not in force yet.
    """
    _record(OptOutAction.RESTRICT, _persons(ids, file))


@click.command()
@_ids_of_persons
def erase(ids: tuple[str, ...], file: BinaryIO | None) -> None:
    """
    Never enrich bids for a person again, and delete the memberships.

    IDs are given as for `restrict`. The memberships can't be restored.
    """
    _record(OptOutAction.ERASURE, _persons(ids, file))


def _record(action: OptOutAction, persons: Sequence[_Person]) -> None:
    settings = control_settings()

    async def record_all() -> tuple[list[Receipt], str]:
        async with ledger_to_write(settings) as ledger, connect(settings.store_url) as redis:
            receipts = [
                await record_opt_outs(ledger, redis, action, persons[at : at + _PERSONS_AT_ONCE])
                for at in range(0, len(persons), _PERSONS_AT_ONCE)
            ]
            waiting = [receipt for receipt in receipts if receipt.waits_because]
            until_s = time.monotonic() + settings.opt_out_wait_s
            for receipt in waiting:
                left_s = until_s - time.monotonic()
                if not await until_applied(ledger, receipt.transaction_ids, max(0, left_s)):
                    return receipts, receipt.waits_because
            return receipts, ""

    receipts, waits_because = run(record_all())
    for receipt in receipts:
        for transaction_id in receipt.transaction_ids:
            click.echo(f"{action.name} {transaction_id}")
    if waits_because:
        click.echo(
            f"recorded for good, and not in force yet: {waits_because}. A loader puts it into"
            " force, before anything else, as soon as it can write to the store; repeat the"
            " command to learn whether it is. Until then bids may show the person, unless no"
            " opt-out has been confirmed for RTB_OPT_OUTS_MAX_AGE_S.",
            err=True,
        )
        sys.exit(NOT_IN_FORCE_YET)


def _persons(ids: tuple[str, ...], file: BinaryIO | None) -> list[_Person]:
    """
    Read all persons, before any opt-out is recorded.

    Raises:
        UsageError: Neither arguments nor a file, or both.
        ClickException: A word is no id, a line is not UTF-8, or there is no id; with the place.
    """
    if ids == ("-",):
        ids, file = (), sys.stdin.buffer
    if bool(ids) == (file is not None):
        raise click.UsageError("give the ids of one person, or a file of persons")
    if file is None:
        person = _person("argument", ids)
        click.echo(_SEEN_BY_OTHERS, err=True)
        return [person]
    persons = [_person(f"line {number}, id", words) for number, words in _lines(file) if words]
    if not persons:
        raise click.ClickException("no id was given")
    return persons


def _lines(file: Iterable[bytes]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(file, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").split()
        except UnicodeDecodeError:
            raise click.ClickException(f"line {number} is not UTF-8") from None


def _person(place: str, words: Sequence[str]) -> _Person:
    person = []
    for position, word in enumerate(words, start=1):
        try:
            person.append(parse_id(word))
        except UnusableId as error:
            raise click.ClickException(f"{place} {position}: {error}") from None
    return person
