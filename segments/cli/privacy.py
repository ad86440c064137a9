"""
The commands `restrict` and `erase`: what a person told us, put into force.

Ids given as arguments stand in the shell's history; so a file or `-` is read
too. No message quotes an id, only where it stood.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

import click

from segments.cli.ledger_access import run
from segments.ledger.database.engine import open_ledger
from segments.model.identity import Id, IdentifierKind, UnusableId, parse_id
from segments.model.record import OptOutAction
from segments.projection.opt_outs import Receipt, record_opt_outs
from segments.runtime.settings_reader import read_settings
from segments.settings import Settings
from segments.store.servers.connection import connect

_Person = list[tuple[IdentifierKind, Id]]

_PERSONS_AT_ONCE = 1000


def _ids_of_persons(command: Callable[..., None]) -> Callable[..., None]:
    command = click.argument("ids", nargs=-1, metavar="[ID]...")(command)
    return click.option(
        "--file",
        "file",
        type=click.File("rb"),
        help="Read persons from a file: one a line, several ids of one with blanks between.",
    )(command)


@click.command()
@_ids_of_persons
def restrict(ids: tuple[str, ...], file: BinaryIO | None) -> None:
    """
    Never enrich for a person again; what is held of them stays, unseen.

    All IDs belong to one person: an e-mail hash (MD5, SHA-1 or SHA-256 in hex),
    a device id, or email:HASH, phone:HASH, duid:TEXT, ifa:UUID, eid:SOURCE:UID.
    With - they are read from standard input, as with --file.
    """
    _record(OptOutAction.RESTRICT, _persons(ids, file))


@click.command()
@_ids_of_persons
def erase(ids: tuple[str, ...], file: BinaryIO | None) -> None:
    """
    Never enrich for a person again, and delete what is held of them.

    IDs as for `restrict`. Nothing brings the memberships back.
    """
    _record(OptOutAction.ERASURE, _persons(ids, file))


def _record(action: OptOutAction, persons: Sequence[_Person]) -> None:
    settings = read_settings(Settings)

    async def record_all() -> list[Receipt]:
        async with open_ledger(settings) as ledger, connect(settings.store_url) as redis:
            return [
                await record_opt_outs(ledger, redis, action, persons[at : at + _PERSONS_AT_ONCE])
                for at in range(0, len(persons), _PERSONS_AT_ONCE)
            ]

    receipts = run(record_all())
    for receipt in receipts:
        for transaction_id in receipt.transaction_ids:
            click.echo(f"{action.name} {transaction_id}")
    waits_because = next((r.waits_because for r in receipts if r.waits_because), "")
    if waits_because:
        click.echo(
            f"recorded for good, but not in the store yet: {waits_because}. The loader applies it"
            " before it does anything else.",
            err=True,
        )


def _persons(ids: tuple[str, ...], file: BinaryIO | None) -> list[_Person]:
    """
    Read whom it is about, all of it before anything is recorded.

    Raises:
        UsageError: Nobody, or both arguments and a file.
        ClickException: Something is not an id; the message says where.
    """
    if ids == ("-",):
        ids, file = (), sys.stdin.buffer
    if bool(ids) == (file is not None):
        raise click.UsageError("give the ids of one person, or a file of persons")
    if file is None:
        return [_person("argument", ids)]
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
