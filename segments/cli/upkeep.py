"""The commands of upkeep: `release`, `rebuild`, `sweep`, `scrub`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.acts import jobs as acts
from segments.cli.control_settings import control_settings
from segments.cli.ledger_access import by_command, ledger_to_write, run
from segments.files.blobs import Blobs
from segments.ingest.tools import Tools
from segments.ledger import jobs
from segments.ledger.database.engine import reading
from segments.model.job import Job
from segments.model.refusal import NotFound
from segments.projection.one_ledger import own_meta
from segments.settings import Settings
from segments.store.embedded import opened
from segments.store.error_code import in_words
from segments.store.meta import prepare
from segments.store.writer import Writer
from segments.upkeep.originals import Seen, see_to_originals
from segments.upkeep.rebuild import CannotRebuild, Progress
from segments.upkeep.rebuild import rebuild as rebuild_store
from segments.upkeep.scrub.scrubber import Scrub, Scrubber
from segments.upkeep.sweep import Swept, sweep_blobs, sweep_store

_SAY_EVERY_S = 5.0


@click.command()
@click.argument("job")
@click.option("--refuse", is_flag=True, help="End the job instead, and remove nothing.")
def release(job: str, refuse: bool) -> None:
    """Let a held JOB (number or transaction id) continue despite its removals."""
    released = run(_release(control_settings(), job, refuse))
    said = "is over, and has removed no member" if refuse else "goes on with the loader"
    click.echo(f"job {released.id} {said}")


@click.command()
@click.option("--skip-missing", is_flag=True, help="Skip jobs whose file can't be read.")
@click.confirmation_option(
    prompt="The store is emptied and made anew; until then no bid is enriched. Go on?"
)
def rebuild(skip_missing: bool) -> None:
    """
    Rebuild the store from the ledger and the delivered files.

    Every record comes back byte for byte. If the command is killed, run it again:
    it begins anew. The store stays closed to bids and loaders until it is rebuilt.
    """
    settings = control_settings()
    done = run(_rebuild(settings, skip_missing))
    click.echo(f"rebuilt: {done.rows:,} rows of {done.jobs:,} jobs")
    if done.skipped:
        click.echo(f"without jobs {', '.join(map(str, done.skipped))}", err=True)


@click.command()
def sweep() -> None:
    """
    Remove expired memberships, those of deleted audiences, and orphaned files.

    The loader does this once a day. Bids continue meanwhile.
    """
    settings = control_settings()
    swept, blobs = run(_sweep(settings))
    click.echo(
        f"swept {swept.buckets:,} buckets: {swept.dropped:,} memberships dropped,"
        f" {blobs:,} orphaned files deleted"
    )
    if swept.unreadable:
        raise click.ClickException(f"{swept.unreadable:,} buckets hold records that can't be read")


@click.command()
def scrub() -> None:
    """
    Remove the ids of erased persons from all kept files now.

    The loader does this within SEGMENTS_SCRUB_WITHIN_H of an ERASURE. Original files that are due
    are reduced to ids or deleted, too.
    """
    settings = control_settings()
    seen, done = run(_scrub(settings))
    if seen.became_ids or seen.deleted:
        click.echo(f"{seen.became_ids:,} delivered files became ids, {seen.deleted:,} were deleted")
    click.echo(
        f"scrubbed: {done.lines:,} lines taken out of {done.rewritten:,} files,"
        f" {done.deleted:,} files deleted, {done.looked_at:,} looked at"
    )
    if done.at_work:
        click.echo(f"{done.at_work:,} files are being loaded; the loader scrubs them then")
    if done.unreadable:
        raise click.ClickException(f"{done.unreadable:,} files can't be read; the log names them")


async def _release(settings: Settings, name: str, refuse: bool) -> Job:
    async with ledger_to_write(settings) as ledger:
        async with reading(ledger) as conn:
            found = await jobs.job(conn, name)
        if found is None:
            raise NotFound(f"there is no job {name}")
        async with ledger.begin() as conn:
            end_hold = acts.refuse if refuse else acts.release
            await end_hold(conn, by_command(), found)
        return found


async def _rebuild(settings: Settings, skip_missing: bool) -> Progress:
    async with ledger_to_write(settings) as ledger:
        with rebuilding():
            async with opened(settings.redis_url, settings.data_dir) as redis:
                return await rebuild_store(
                    tools_of(settings, ledger, redis),
                    settings.expected_ids,
                    show=RebuildProgress().show,
                    skip_missing=skip_missing,
                )


def tools_of(settings: Settings, ledger: AsyncEngine, redis: Redis) -> Tools:
    """Return the tools of a rebuild."""
    return Tools(
        ledger,
        redis,
        Blobs.open(settings.blobs_at, settings.reserve_bytes),
        settings.spool_dir,
        time.time,
        reserve_bytes=settings.reserve_bytes,
    )


@contextmanager
def rebuilding() -> Iterator[None]:
    """Report errors that stop a rebuild, with the remedy."""
    try:
        yield
    except CannotRebuild as error:
        raise click.ClickException(
            f"{error}. The store {'stays closed' if error.is_closed else 'is as it was'}: put the"
            " file back and run `rtb-segments rebuild`, or go on without it by"
            " `rebuild --skip-missing`"
        ) from None
    except RedisError as error:
        raise click.ClickException(
            f"{in_words(error)}; what there is of it stays closed: run this again"
        ) from None


async def _sweep(settings: Settings) -> tuple[Swept, int]:
    async with ledger_to_write(settings) as ledger:
        try:
            async with opened(settings.redis_url, settings.data_dir) as redis:
                await prepare(redis, settings.expected_ids)
                writer = Writer(redis, await own_meta(ledger, redis))
                swept = await sweep_store(ledger, redis, writer, time.time())
        except RedisError as error:
            raise click.ClickException(f"{in_words(error)}; run this again") from None
        blobs = await sweep_blobs(
            ledger,
            Blobs.open(settings.blobs_at, settings.reserve_bytes),
            time.time(),
            abandoned_after_s=settings.abandoned_after_s,
        )
        return swept, blobs


async def _scrub(settings: Settings) -> tuple[Seen, Scrub]:
    async with ledger_to_write(settings) as ledger:
        scrubber = Scrubber(
            ledger,
            Blobs.open(settings.blobs_at, settings.reserve_bytes),
            settings.spool_dir,
            time.time,
            settings.reserve_bytes,
        )
        seen = await see_to_originals(scrubber, settings.loader_options.refused_file_s)
        done = await scrubber.scrub(time.time())
        await scrubber.delete_strays()
        return seen, done


class RebuildProgress:
    """Reports a rebuild's steps on stderr, of jobs only every few seconds."""

    def __init__(self) -> None:
        self._doing = ""
        self._said_at_s = 0.0

    def show(self, progress: Progress) -> None:
        """Report a step."""
        is_of_job = progress.doing.startswith("job ")
        is_due = time.monotonic() - self._said_at_s >= _SAY_EVERY_S
        if progress.doing == self._doing or (is_of_job and not is_due):
            return
        self._doing = progress.doing
        self._said_at_s = time.monotonic()
        click.echo(f"{progress.doing} ({progress.rows:,} rows so far)", err=True)
