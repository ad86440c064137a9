"""
Shared code of commands that use the ledger.

A refusal prints one line, such as `Error: there is no partner x`, with exit status 1; a wrong
setting has status 2.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import click
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.acts.trail import By
from segments.cli.control_settings import control_settings
from segments.ledger.database.engine import LedgerUnusable, NoLedger, existing_ledger, reading
from segments.ledger.privacy.audit import COMMAND_LINE
from segments.model.quota import OverQuota
from segments.model.refusal import Refusal
from segments.projection.catalog import publish_catalog
from segments.projection.causes import away_by
from segments.projection.in_force import withdraw_from_bids
from segments.projection.ledger_guard import LedgerGuard
from segments.runtime.event_loop import run_listening
from segments.runtime.ports import CannotListen
from segments.runtime.stopping import stopping_event
from segments.runtime.tls import UnusableTls
from segments.settings import Settings
from segments.store.error_code import in_words
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect

T = TypeVar("T")


class _NoLedger(click.ClickException):
    """The command was started in the wrong place or too early."""

    exit_code = 2


_CONNECT_TIMEOUT_S = 1.0
"""Short: an operator waits, and the loader makes up for it."""


NOT_IN_FORCE_YET = 3
"""The exit status after a restriction that is not in force yet."""


def forbid(
    do: Callable[[AsyncConnection], Awaitable[str]], *, shown_once: Sequence[str] = ()
) -> None:
    """
    Restrict bids, and report the change when it is in force.

    Exit status 3: only recorded; see `segments.projection.in_force`.

    `do` makes the change and returns its report. Secrets made by `do` (`shown_once`) are printed
    alone after the commit; such a command must not be repeated.
    """
    settings = control_settings()

    async def change_and_withdraw() -> tuple[str, str]:
        async with ledger_to_write(settings) as ledger:
            async with ledger.begin() as conn:
                done = await do(conn)
            for secret in shown_once:
                click.echo(secret)
            async with _asked_once(settings) as redis:
                wait_s = settings.opt_out_wait_s
                return done, await withdraw_from_bids(ledger, redis, wait_s=wait_s)

    done, waits_because = run(change_and_withdraw())
    if not waits_because:
        click.echo(done, err=bool(shown_once))
        return
    again = "" if shown_once else "; repeat the command within an hour to learn whether it is"
    click.echo(
        f"recorded: {done}. Not in force yet: {waits_because}. A loader puts it into force as soon"
        f" as it can write to the store, which `doctor` reports{again}. Until then bids may show"
        " what they showed before.",
        err=True,
    )
    sys.exit(NOT_IN_FORCE_YET)


def by_command() -> By:
    """Return the command line as the actor, now."""
    return By(COMMAND_LINE, time.time())


def change(
    do: Callable[[AsyncConnection], Awaitable[str]],
    *,
    committed: Callable[[], None] | None = None,
) -> None:
    """
    Change the ledger in one transaction, report the change, and publish the catalog.

    Changes that restrict bids take `forbid`.

    `do` makes the change and returns its report. `committed` prints secrets that `do` drew, right
    after the commit; the report then goes to standard error.
    """
    settings = control_settings()

    async def change_and_publish() -> None:
        async with ledger_to_write(settings) as ledger:
            async with ledger.begin() as conn:
                done = await do(conn)
            if committed is not None:
                committed()
            click.echo(done, err=committed is not None)
            await _publish(ledger, settings)

    run(change_and_publish())


def keep(do: Callable[[AsyncConnection], Awaitable[str]], *, err: bool = False) -> None:
    """
    Make a change that the bid path does not see, in one transaction.

    `do` makes the change and returns its report, printed to standard error if `err`.
    """
    settings = control_settings()

    async def open_and_do() -> str:
        async with ledger_to_write(settings) as ledger, ledger.begin() as conn:
            return await do(conn)

    click.echo(run(open_and_do()), err=err)


def look(ask: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Query the ledger in one consistent snapshot."""
    settings = control_settings()

    async def open_and_ask() -> T:
        async with existing_ledger(settings.ledger_dsn) as ledger, reading(ledger) as conn:
            return await ask(conn)

    return run(open_and_ask())


def look_again_and_again(
    ask: Callable[[AsyncConnection], Awaitable[T]], show: Callable[[T], bool], *, every_s: float
) -> None:
    """
    Query the ledger every `every_s` seconds until Ctrl-C, SIGTERM, or `show` returns true.

    Each query has its own snapshot.
    """
    settings = control_settings()

    async def open_and_ask() -> None:
        stopping = stopping_event()
        async with existing_ledger(settings.ledger_dsn) as ledger:
            while not stopping.is_set():
                async with reading(ledger) as conn:
                    found = await ask(conn)
                if show(found):
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), every_s)

    run(open_and_ask())


@asynccontextmanager
async def ledger_to_write(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """
    Open the ledger for a command that changes it, even without the store.

    Raises:
        NoLedger: There is no ledger. None is made, because the place could be wrong.
        segments.projection.one_ledger.OtherLedger: The store belongs to another ledger.
        segments.store.reader.LedgerBehind: The ledger is an older copy of the store's own.
    """
    async with existing_ledger(settings.ledger_dsn) as ledger:
        async with _asked_once(settings) as redis:
            await LedgerGuard(ledger, redis).start()
        yield ledger


def run(command: Coroutine[object, object, T], *, listens: bool = False) -> T:
    """
    Run a command to its end; `listens`: it accepts connections.

    Raises:
        ClickException: The request was refused, or can't be carried out here.
    """
    try:
        return run_listening(command) if listens else asyncio.run(command)
    except NoLedger as error:
        raise _NoLedger(str(error)) from None
    except (Refusal, OverQuota, LedgerUnusable, StoreUnusable, CannotListen, UnusableTls) as error:
        raise click.ClickException(str(error)) from None
    except Exception as error:
        away = away_by(error)
        if away is None:
            raise
        raise click.ClickException(f"{away}; then run this again") from None


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
