import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import run
from segments.cli.upkeep import RebuildProgress, rebuilding, tools_of
from segments.ledger.database.engine import LedgerUnusable, existing_ledger, open_ledger
from segments.projection.one_ledger import UNNAMED
from segments.settings import Settings
from segments.store.embedded import opened
from segments.store.reader import read_whose
from segments.upkeep.rebuild import rebuild as rebuild_store
from segments.upkeep.reconcile import Reconciled, adopt
from segments.upkeep.reconcile import reconcile as reconcile_ledger


@click.command()
@click.option(
    "--rebuild/--no-rebuild",
    "rebuilds",
    default=None,
    help="Rebuild the store afterwards, or not; by default, ask on a terminal.",
)
def reconcile(*, rebuilds: bool | None) -> None:
    """
    Bring a ledger that was restored from a backup up to date with its store.

    The command takes over from the store all opt-outs since the backup, makes sure that no number
    is given twice, and lists lost data. Until then no process works with the ledger, and no bid
    is enriched.
    """
    settings = control_settings()
    found = run(_reconcile(settings))
    if found is None:
        click.echo("the ledger is not behind its store: there is nothing to reconcile")
        return
    _say(found)
    if rebuilds is None:
        rebuilds = sys.stdin.isatty() and click.confirm(
            "Rebuild the store now? It will then hold this ledger's data and nothing else:"
            " additions of lost deliveries go. No bid is enriched until it is done"
        )
    if rebuilds:
        run(_rebuild(settings))
    else:
        click.echo(
            "bids are enriched again. The store still holds the additions of lost deliveries to"
            " existing audiences; `rtb-segments rebuild` removes them"
        )


@click.command("adopt-store")
@click.option(
    "--from", "from_id", required=True, help="Id of the lost ledger, which the store belongs to."
)
@click.confirmation_option(
    prompt="The store is emptied and made anew from this ledger; of what the other one has"
    " written the opt-outs alone are kept. Go on?"
)
def adopt_store(from_id: str) -> None:
    """
    Take over a store whose own ledger is lost for good.

    The present ledger takes over the store's opt-outs first: each for the account of the same name
    here, or globally if no account has it. The command makes a ledger if there is none.
    """
    settings = control_settings()
    _say(run(_adopt(settings, from_id)))


@asynccontextmanager
async def _both(settings: Settings) -> AsyncIterator[tuple[AsyncEngine, Redis]]:
    async with (
        existing_ledger(settings.ledger_dsn) as ledger,
        opened(settings.redis_url, settings.data_dir) as redis,
    ):
        yield ledger, redis


async def _reconcile(settings: Settings) -> Reconciled | None:
    with rebuilding():
        async with _both(settings) as (ledger, redis):
            return await reconcile_ledger(tools_of(settings, ledger, redis))


async def _rebuild(settings: Settings) -> None:
    with rebuilding():
        async with _both(settings) as (ledger, redis):
            tools = tools_of(settings, ledger, redis)
            await rebuild_store(tools, settings.expected_ids, show=RebuildProgress().show)


async def _adopt(settings: Settings, from_id: str) -> Reconciled:
    async with opened(settings.redis_url, settings.data_dir) as redis:

        async def see_that_it_is_theirs() -> None:
            held = (await read_whose(redis)).ledger_id or UNNAMED
            if held != from_id:
                raise LedgerUnusable(
                    f"there is no ledger here, and the store belongs to ledger {held}, not to"
                    f" {from_id}: look at SEGMENTS_DATA_DIR, SEGMENTS_LEDGER_URL and"
                    " SEGMENTS_REDIS_URL"
                )

        with rebuilding():
            async with open_ledger(settings.ledger_dsn, see_that_it_is_theirs) as ledger:
                tools = tools_of(settings, ledger, redis)
                found = await adopt(tools, from_id)
                await rebuild_store(tools, settings.expected_ids, show=RebuildProgress().show)
                return found


def _say(found: Reconciled) -> None:
    click.echo(f"opt-outs that only the store knew, now in the ledger: {found.opt_outs:,}")
    for line in found.gone:
        click.echo(f"gone: {line}")
    for line in found.again:
        click.echo(f"as the store had it: {line}")
    if found.unreadable:
        click.echo(f"{found.unreadable:,} records of the store can't be read", err=True)
