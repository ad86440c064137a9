"""
What the commands over the ledger share: open it, refuse in one line, publish.

A refusal is told as `Error: there is no partner x` with exit status 1, and a
wrong setting with status 2: never with a traceback.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import click
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.acts.trail import By
from segments.cli.control_settings import control_settings
from segments.ledger.database.engine import LedgerUnusable, NoLedger, existing_ledger, reading
from segments.ledger.privacy.audit import COMMAND_LINE
from segments.model.refusal import Refusal
from segments.projection.catalog import publish_catalog
from segments.projection.in_force import withdraw_from_bids
from segments.projection.ledger_guard import LedgerGuard
from segments.runtime.admin_port import CannotListen
from segments.runtime.tls import UnusableTls
from segments.settings import Settings
from segments.store.error_code import in_words
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect

T = TypeVar("T")


class _NoLedger(click.ClickException):
    """The command was started in the wrong place, or too early: like a wrong option."""

    exit_code = 2


_CONNECT_TIMEOUT_S = 1.0
"""For a command that someone waits for; what it could not write follows by itself."""


NOT_IN_FORCE_YET = 3
"""The exit status of a command that could only record what it was told to forbid."""


def forbid(do: Callable[[AsyncConnection], Awaitable[str]]) -> None:
    """
    Change what bids show to less, and say what was done once no bid shows more.

    Exit status 3 if it is only recorded: see `segments.projection.in_force`.

    Args:
        do: Makes the change and returns what to say of it.
    """
    settings = control_settings()

    async def change_and_withdraw() -> tuple[str, str]:
        async with ledger_to_write(settings) as ledger:
            async with ledger.begin() as conn:
                done = await do(conn)
            async with _asked_once(settings) as redis:
                wait_s = settings.opt_out_wait_s
                return done, await withdraw_from_bids(ledger, redis, wait_s=wait_s)

    done, waits_because = run(change_and_withdraw())
    if not waits_because:
        click.echo(done)
        return
    click.echo(
        f"recorded: {done}. Not in force yet: {waits_because}. A loader sees to it as soon as it"
        " can write to the store, which `doctor` tells; the same command once more, within an"
        " hour, tells whether it is. Bids may show what was shown before until then.",
        err=True,
    )
    sys.exit(NOT_IN_FORCE_YET)


def by_command() -> By:
    """Return who acts on the command line, now."""
    return By(COMMAND_LINE, time.time())


def change(do: Callable[[AsyncConnection], Awaitable[str]]) -> None:
    """
    Change the ledger in one transaction, publish the catalog, say what was done.

    What takes from what bids show is `forbid`.

    Args:
        do: Makes the change and returns what to say of it.
    """
    settings = control_settings()

    async def change_and_publish() -> None:
        async with ledger_to_write(settings) as ledger:
            async with ledger.begin() as conn:
                done = await do(conn)
            click.echo(done)
            await _publish(ledger, settings)

    run(change_and_publish())


def keep(do: Callable[[AsyncConnection], Awaitable[str]]) -> None:
    """
    Change, in one transaction, what the bid path does not see: there is nothing to publish.

    Args:
        do: Makes the change and returns what to say of it.
    """
    settings = control_settings()

    async def open_and_do() -> str:
        async with ledger_to_write(settings) as ledger, ledger.begin() as conn:
            return await do(conn)

    click.echo(run(open_and_do()))


def look(ask: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Return what is asked of the ledger, as of one moment."""
    settings = control_settings()

    async def open_and_ask() -> T:
        async with existing_ledger(settings.ledger_dsn) as ledger, reading(ledger) as conn:
            return await ask(conn)

    return run(open_and_ask())


@asynccontextmanager
async def ledger_to_write(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """
    Open the ledger for a command that changes it.

    A store that can't be asked is no hindrance: what it is to show is published when it is back.

    Raises:
        NoLedger: There is none, and no command makes one: it could be in the wrong place.
        segments.projection.one_ledger.OtherLedger: The store belongs to another one.
        segments.store.reader.LedgerBehind: It is an older copy of the store's.
    """
    async with existing_ledger(settings.ledger_dsn) as ledger:
        async with _asked_once(settings) as redis:
            await LedgerGuard(ledger, redis).start()
        yield ledger


def run(command: Coroutine[object, object, T]) -> T:
    """
    Run a command to its end.

    Raises:
        ClickException: What was asked was refused, or can't be done here.
    """
    try:
        return asyncio.run(command)
    except NoLedger as error:
        raise _NoLedger(str(error)) from None
    except (Refusal, LedgerUnusable, StoreUnusable, CannotListen, UnusableTls) as error:
        raise click.ClickException(str(error)) from None


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """
    Print rows: in columns under headings on a terminal, else with tabs alone.

    `None` prints as `-`, so that every row has as many words as the next.
    """
    table = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in table:
            click.echo("\t".join(row))
        return
    table.insert(0, [heading.upper() for heading in headings])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())


async def _publish(ledger: AsyncEngine, settings: Settings) -> None:
    try:
        async with _asked_once(settings) as redis:
            await publish_catalog(ledger, redis)
    except StoreUnusable as error:
        why = str(error)
    except ResponseError as error:
        why = in_words(error)
    except (RedisError, OSError):
        why = "the store is not running or can't be reached"
    else:
        return
    click.echo(f"not published yet: {why}. The loader publishes it when it can.", err=True)


def _asked_once(settings: Settings) -> Redis:
    return connect(settings.store_url, socket_connect_timeout=_CONNECT_TIMEOUT_S, retry=None)
