"""
Puts a population into the store, by the product's own code.

    accounts, recipients   the ledger
    some erasures          `segments.projection.opt_outs`, before any file: their rows are refused
    e-mail hashes          files with LiveAudience metadata, accepted into jobs and
                           loaded by the loader's own code, as `rtb-segments load` does
    DUID, ifa, eid         `Writer.merge`, the last step of a job: no file carries them
    retired segments       the ledger
    some restrictions      `segments.projection.opt_outs`, after the files

Seeding again changes only the ledger, which gets jobs and opt-outs again. A running loader shares
the jobs.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from loadtest.delivery import deliver, segment_name
from loadtest.population import (
    ERASED_REMAINDER,
    PARTNERS,
    RECIPIENT_TO_PARTNERS,
    RESTRICTED_REMAINDER,
    Partner,
    Population,
    Slice,
    is_retired,
)
from segments.files.blobs import Blobs
from segments.ledger import accounts, audiences, jobs, recipients
from segments.ledger.database.engine import open_ledger, reading
from segments.loader.loader import Loader
from segments.model.account import Account, AccountKind
from segments.model.audience import AudienceState, change
from segments.model.job import Job, JobState
from segments.model.record import OptOutAction, Tally
from segments.projection.catalog import catch_up, publish_catalog
from segments.projection.opt_outs import record_opt_outs
from segments.settings import Settings
from segments.store.embedded import opened
from segments.store.writer import Writer

_OPT_OUTS_AT_ONCE = 1_000
_OTHER_LOADER_S = 0.2

Say = Callable[[str], None]


class SeedFailed(Exception):
    """A file was not loaded; the message is the job's own."""


@dataclass
class Seeded:
    """The results, counted in pairs of id and audience, as jobs count."""

    files: int = 0
    rows: int = 0
    by_file: Tally = field(default_factory=Tally)
    by_writer: Tally = field(default_factory=Tally)
    opted_out: int = 0
    loading_s: float = 0.0  # spent in jobs; making the files is not counted


async def seed(population: Population, settings: Settings, say: Say = lambda _: None) -> Seeded:
    """
    Put a population into the store and the ledger of these settings, with a line of `say` for each
    step.

    Raises:
        SeedFailed: A job failed, or an opt-out could not be applied.
        segments.store.reader.StoreUnusable: The store is not ours to write.
    """
    async with (
        open_ledger(settings.ledger_dsn) as ledger,
        opened(settings.redis_url, settings.data_dir) as redis,
    ):
        meta = await catch_up(ledger, redis, settings.expected_ids)
        sower = _Sower(population, settings, ledger, redis, Writer(redis, meta))
        done = sower.done

        await sower.make_accounts()
        await sower.opt_out(ERASED_REMAINDER, OptOutAction.ERASURE)
        say(f"{done.opted_out:,} persons erased before their files come")
        for slice_ in population.slices():
            await sower.deliver(slice_)
        say(f"{done.files:,} files, {done.rows:,} rows: {_counts(done.by_file)}")
        for cohort in range(population.cohorts):
            await sower.write(cohort)
        say(f"DUIDs, device ids and eids, which no file carries: {_counts(done.by_writer)}")
        await sower.retire()
        await sower.opt_out(RESTRICTED_REMAINDER, OptOutAction.RESTRICT)
        say(f"{done.opted_out:,} persons erased or restricted")
        await publish_catalog(ledger, redis)
    return done


def _counts(tally: Tally) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in tally._asdict().items())


class _Sower:
    def __init__(
        self,
        population: Population,
        settings: Settings,
        ledger: AsyncEngine,
        redis: Redis,
        writer: Writer,
    ) -> None:
        self.done = Seeded()
        self._population = population
        self._ledger = ledger
        self._redis = redis
        self._writer = writer
        self._blobs = Blobs.open(settings.blobs_at)
        self._loader = Loader(settings.loader_options, ledger, redis, self._blobs)
        # Each partner's own account, and the owner of its audiences.
        self._partner_to_accounts: dict[Partner, tuple[Account, Account]] = {}

    async def make_accounts(self) -> None:
        async with self._ledger.begin() as conn:
            for partner in PARTNERS:
                self._partner_to_accounts[partner] = await _accounts_of(conn, partner)
            known = {recipient.name for recipient in await recipients.recipients(conn)}
            for name, granted in RECIPIENT_TO_PARTNERS.items():
                if name not in known:
                    await recipients.add_recipient(conn, name, now_s=time.time())
                recipient = await recipients.recipient(conn, name)
                for partner, (account, _) in self._partner_to_accounts.items():
                    if partner.public_id in granted:
                        await recipients.grant(conn, recipient, account)

    async def opt_out(self, remainder: int, action: OptOutAction) -> None:
        """
        Record the global opt-outs of some persons.

        Raises:
            SeedFailed: The store could not apply them; they wait in the ledger.
        """
        population = self._population
        numbers = population.opted_out(remainder)
        for start in range(0, len(numbers), _OPT_OUTS_AT_ONCE):
            persons = [
                [(population.kind_of(number), population.id_of(number))]
                for number in numbers[start : start + _OPT_OUTS_AT_ONCE]
            ]
            receipt = await record_opt_outs(
                self._ledger, self._redis, action, persons, submitter="loadtest"
            )
            if receipt.waits_because:
                raise SeedFailed(f"opt-outs of the seed wait: {receipt.waits_because}")
        self.done.opted_out += len(numbers)

    async def deliver(self, slice_: Slice) -> None:
        """
        Deliver a cohort's file to each of its partners, and run the jobs.

        Raises:
            SeedFailed: A job failed.
        """
        population = self._population
        hashes = [population.email_hash(number) for number in population.numbers_in(slice_)]
        if not hashes:
            return
        for share in population.shares(slice_.cohort):
            job = await deliver(self._ledger, self._blobs, hashes, share)
            started_at_s = time.monotonic()
            report = (await self._carried(job)).report
            self.done.loading_s += time.monotonic() - started_at_s
            self.done.files += 1
            self.done.rows += report.valid
            self.done.by_file += Tally(*(getattr(report, name) for name in Tally._fields))

    async def write(self, cohort: int) -> None:
        """Write a cohort's persons that no file can carry."""
        population = self._population
        ids = [population.id_of(number) for number in population.not_in_files(cohort)]
        if not ids:
            return
        now_s = time.time()
        changes = []
        async with self._ledger.begin() as conn:
            tree = await accounts.tree(conn)
            for share in population.shares(cohort):
                partner, owner = self._partner_to_accounts[share.partner]
                for id_ in share.segment_ids:
                    audience = await audiences.find_or_create_audience(
                        conn, owner, partner, id_, segment_name(id_), now_s=now_s
                    )
                    changes.append(change(audience, is_add=True, tree=tree, now_s=now_s))
        self.done.by_writer += await self._writer.merge(ids, changes)

    async def retire(self) -> None:
        async with self._ledger.begin() as conn:
            for _, owner in self._partner_to_accounts.values():
                for audience in await audiences.audiences(conn, owner):
                    if audience.state is AudienceState.ACTIVE and is_retired(audience.segment_id):
                        await audiences.set_state(
                            conn, audience, AudienceState.DEACTIVATED, now_s=time.time()
                        )

    async def _carried(self, job: Job) -> Job:
        while job.state in (JobState.QUEUED, JobState.RUNNING):
            claimed = await self._loader.claim(job.partner_id)
            if claimed is None:
                # Another loader has this job, or an earlier one.
                await asyncio.sleep(_OTHER_LOADER_S)
            else:
                await self._loader.run_one(claimed, asyncio.Event())
            async with reading(self._ledger) as conn:
                job = await jobs.job(conn, job.id) or job
        if job.state is not JobState.DONE:
            raise SeedFailed(f"job {job.id} of the seed is {job.state}: {job.error}")
        return job


async def _accounts_of(conn: AsyncConnection, partner: Partner) -> tuple[Account, Account]:
    now_s = time.time()
    account = await accounts.find_partner(conn, partner.public_id)
    if account is None:
        account = await accounts.add_account(
            conn,
            AccountKind.ADVERTISER if partner.sub_id is None else AccountKind.AGENCY,
            partner.public_id,
            partner.name,
            segtax=partner.segtax,
            now_s=now_s,
        )
    if partner.sub_id is None:
        return account, account
    owner = await accounts.find_sub_account(conn, account, partner.sub_id)
    if owner is None:
        owner = await accounts.add_account(
            conn, AccountKind.ADVERTISER, partner.sub_id, "Its client", parent=account, now_s=now_s
        )
    return account, owner
