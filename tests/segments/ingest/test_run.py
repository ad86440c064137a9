"""
A delivered file against a real store and a real ledger: what becomes of it.
"""

import asyncio
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blob import Blob
from segments.files.blobs import Blobs
from segments.ingest.run import run
from segments.ingest.tools import Tools
from segments.ledger import accounts, audiences, jobs
from segments.ledger.tables import job_audiences
from segments.model.account import Account, AccountKind
from segments.model.audience import Audience
from segments.model.job import MAX_DEATHS, BadLine, BadLineReason, Checkpoint, Job, JobState
from segments.model.record import (
    EVERYONE,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    Tally,
    day_of,
)
from segments.model.stop_reason import Stopped, StopReason
from segments.settings import Settings
from segments.store.keys import bucket_key, bucket_of
from segments.store.meta import prepare
from segments.store.reader import Meta, read_catalog, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.engines import Engine
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    gz_of,
    ids_of,
    metadata_of,
    text_of,
    zip_of,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HASHES = email_hashes(2000)
TEXT = text_of(HASHES)


class Killed(Exception):
    """The end of a loader, as far as a job can tell."""


@dataclass
class Ingest:
    """A store, a ledger with one partner, and what delivers files to them."""

    redis: Redis
    meta: Meta
    ledger: AsyncEngine
    blobs: Blobs
    tools: Tools
    partner: Account
    kept: list[Job] = field(default_factory=list)

    async def delivered(
        self,
        content: bytes = TEXT,
        *,
        records: int | None = None,
        described: bytes | None = None,
        **fields: Any,
    ) -> Job:
        """Deliver a file as described; `described` is the content that the digest is of."""
        if records is None:
            records = len(content.splitlines())
        metadata = metadata_of(
            content if described is None else described, records=records, **fields
        )
        return await accept(
            self.ledger,
            self.blobs,
            read_metadata(as_json(metadata)),
            [content],
            door="test",
            file_name="a.txt",
            now_s=time.time(),
        )

    async def carried(self, job: Job, *, kill_after: int | None = None) -> Job:
        """Run a job; `kill_after` so many batches have been written, nothing of it is kept."""
        checkpoints = 0

        async def keep(state: Job) -> None:
            nonlocal checkpoints
            checkpoints += bool(state.checkpoint.next_part)
            if kill_after is not None and checkpoints > kill_after:
                raise Killed
            self.kept.append(state)

        ended = await run(job, self.tools, keep)
        async with self.ledger.begin() as conn:
            await jobs.rewrite(conn, ended)
        return ended

    async def load(self, content: bytes = TEXT, **how: Any) -> Job:
        return await self.carried(await self.delivered(content, **how))

    async def records(self, hashes: Sequence[str] = HASHES) -> list[Record]:
        return await read_records(self.redis, self.meta, ids_of(hashes))

    async def audience(self, segment_id: str = "123") -> Audience:
        async with self.ledger.connect() as conn:
            found = await audiences.find_audience(conn, self.partner, segment_id)
        assert found is not None
        return found

    async def everything(self) -> dict[bytes, list[tuple[Any, Any]]]:
        """Return all buckets of the store, byte for byte."""
        keys = sorted([key async for key in self.redis.scan_iter(match=b"seg:1:m:*")])
        return {key: sorted((await self.redis.hgetall(key)).items()) for key in keys}


@pytest.fixture
async def world(
    valkey: Engine, ledger: AsyncEngine, settings: Settings, blobs: Blobs
) -> AsyncIterator[Ingest]:
    async with connect(valkey.url) as redis:
        meta = await prepare(redis, 10_000)
        async with ledger.begin() as conn:
            partner = await accounts.add_account(
                conn, AccountKind.ADVERTISER, PARTNER_ID, "Partner", now_s=0
            )
        spool_dir = settings.spool_dir
        # Many batches out of few rows.
        tools = Tools(ledger, redis, blobs, spool_dir, time.time, pairs_per_batch=200)
        yield Ingest(redis, meta, ledger, blobs, tools, partner)


@pytest.mark.parametrize("hash_type", ["md5", "sha1", "sha2"])
async def test_every_person_of_a_file_is_a_member(world: Ingest, hash_type: str) -> None:
    hashes = email_hashes(500, hash_type)

    job = await world.load(text_of(hashes))

    audience = await world.audience()
    assert job.state is JobState.DONE
    assert (job.report.rows, job.report.added, job.report.hash_type) == (500, 500, hash_type)
    assert await world.records(hashes) == [Record((), (Membership(audience.id),))] * 500


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(gz_of(TEXT), id="gz"),
        pytest.param(zip_of({"a.csv": TEXT}), id="zip"),
        pytest.param(TEXT.replace(b"\n", b"\r\n"), id="windows line ends"),
        pytest.param(b"\xef\xbb\xbfemail\r\n" + TEXT, id="byte order mark and title"),
        pytest.param(TEXT.rstrip(), id="no last line end"),
        pytest.param(b"".join(b'"%s"\n' % line for line in TEXT.splitlines()), id="quotes"),
    ],
)
async def test_form_of_a_file_changes_nothing_in_the_store(world: Ingest, packed: bytes) -> None:
    await world.load(packed, records=2000)
    first = await world.everything()
    await world.redis.delete(*first)

    await world.load(TEXT)

    assert await world.everything() == first
    assert sum(map(len, first.values())) == 2000


async def test_one_call_adds_to_one_segment_and_removes_from_another(world: Ingest) -> None:
    await world.load(segments=[("1", "add"), ("2", "add")])

    job = await world.load(text_of(HASHES[:500]), segments=[("1", "remove"), ("3", "add")])

    one, two, three = [(await world.audience(name)).id for name in "123"]
    assert (job.report.removed, job.report.added) == (500, 500)
    assert (
        await world.records(HASHES[:500])
        == [Record((), (Membership(two), Membership(three)))] * 500
    )
    assert (
        await world.records(HASHES[500:]) == [Record((), (Membership(one), Membership(two)))] * 1500
    )


async def test_job_counts_its_results_by_audience(world: Ingest) -> None:
    await world.load(segments=[("1", "add")])

    job = await world.load(text_of(HASHES[:500]), segments=[("1", "remove"), ("3", "add")])

    one, three = [(await world.audience(name)).id for name in "13"]
    async with world.ledger.connect() as conn:
        kept = await jobs.job(conn, job.id)
        assert kept is not None
        changed = (await conn.execute(select(job_audiences))).all()
    assert kept.report.tallies == {one: Tally(removed=500), three: Tally(added=500)}
    assert [tuple(row) for row in changed if row.job_id == job.id] == [
        (job.id, one, "remove"),
        (job.id, three, "add"),
    ]


async def test_job_that_is_planned_twice_names_each_audience_once(world: Ingest) -> None:
    job = await world.delivered(segments=[("1", "add"), ("1", "add"), ("1", "remove")])
    with pytest.raises(Killed):
        await world.carried(job, kill_after=0)

    await world.carried(job)

    async with world.ledger.connect() as conn:
        rows = await conn.execute(select(job_audiences.c.action))
        assert sorted(rows.scalars()) == ["add", "remove"]


async def test_job_tells_when_its_stages_ended(world: Ingest) -> None:
    job = await world.load()

    report = job.report
    assert report.read_at_s is not None
    assert report.checked_at_s is not None
    assert report.written_at_s is not None
    assert job.finished_at_s is not None
    assert (
        job.created_at_s
        <= report.read_at_s
        <= report.checked_at_s
        <= report.written_at_s
        <= job.finished_at_s
    )


async def test_segment_that_did_not_exist_reaches_the_catalog(world: Ingest) -> None:
    await world.load()

    catalog = await read_catalog(world.redis)

    assert [(entry.segment_id, entry.is_active) for entry in catalog.audiences] == [("123", True)]


async def test_segment_id_that_is_no_integer_fails_its_own_action_alone(world: Ingest) -> None:
    job = await world.load(segments=[("abc", "add"), ("5", "add")])

    rejected, carried_out = job.report.segments
    assert job.state is JobState.DONE
    assert (rejected.audience_id, carried_out.audience_id) == (None, (await world.audience("5")).id)
    assert job.report.added == 2000


async def test_file_whose_segments_are_all_rejected_writes_nothing(world: Ingest) -> None:
    job = await world.load(segments=[("abc", "add")])

    assert (job.state, job.report.written) == (JobState.DONE, 0)
    assert await world.everything() == {}


async def test_sub_account_owns_what_its_agency_shows(world: Ingest) -> None:
    async with world.ledger.begin() as conn:
        agency = await accounts.add_account(conn, AccountKind.AGENCY, "agency", "Agency", now_s=0)
        sub = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "sub", "Sub", parent=agency, now_s=0
        )

    await world.load(partner_id="agency", sub_id="sub")

    (entry,) = (await read_catalog(world.redis)).audiences
    assert (entry.owner_id, entry.partner_id) == (sub.id, agency.id)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param({"partner_id": "nobody"}, StopReason.UNKNOWN_PARTNER, id="unknown partner"),
        pytest.param({"partner_id": "agency"}, StopReason.UNKNOWN_SUB_ID, id="agency alone"),
        pytest.param(
            {"partner_id": "agency", "sub_id": "x"}, StopReason.UNKNOWN_SUB_ID, id="unknown sub_id"
        ),
        pytest.param({"partner_id": "left"}, StopReason.UNKNOWN_PARTNER, id="inactive partner"),
    ],
)
async def test_delivery_of_nobody_is_not_taken_in(
    world: Ingest, named: dict[str, Any], expected: StopReason
) -> None:
    async with world.ledger.begin() as conn:
        await accounts.add_account(conn, AccountKind.AGENCY, "agency", "Agency", now_s=0)
        left = await accounts.add_account(conn, AccountKind.ADVERTISER, "left", "Left", now_s=0)
        await accounts.set_account_active(conn, left, is_active=False)

    with pytest.raises(Stopped) as caught:
        await world.delivered(**named)

    assert caught.value.reason is expected
    assert await world.blobs.names() == []


@pytest.mark.parametrize(
    ("content", "how", "expected"),
    [
        pytest.param(TEXT, {"described": b"other"}, StopReason.DIGEST_MISMATCH, id="other file"),
        pytest.param(
            gz_of(TEXT),
            {"described": b"", "records": 2000},
            StopReason.DIGEST_MISMATCH,
            id="other gz",
        ),
        pytest.param(
            TEXT, {"records": 1999}, StopReason.RECORD_COUNT_MISMATCH, id="one record more"
        ),
        pytest.param(b"", {}, StopReason.NO_VALID_RECORD, id="empty file"),
        pytest.param(b"\n\n\r\n", {"records": 0}, StopReason.NO_VALID_RECORD, id="blank lines"),
        pytest.param(b"email\n", {"records": 0}, StopReason.NO_VALID_RECORD, id="title alone"),
        pytest.param(b"a@example.com\n" * 9, {}, StopReason.NO_VALID_RECORD, id="not hashed"),
        pytest.param(
            bytes(range(256)) * 99, {"records": 99}, StopReason.NO_VALID_RECORD, id="an image"
        ),
        pytest.param(
            gz_of(TEXT)[:-50], {"records": 2000}, StopReason.UNREADABLE_FILE, id="gz cut short"
        ),
        pytest.param(
            zip_of({"a": TEXT, "b": TEXT}),
            {"records": 4000},
            StopReason.UNREADABLE_FILE,
            id="zip of two",
        ),
        pytest.param(
            gz_of(b"\0" * (100 << 20)), {"records": 1}, StopReason.INFLATES_TOO_FAR, id="bomb"
        ),
    ],
)
async def test_file_that_is_not_what_was_described_writes_nothing(
    world: Ingest, content: bytes, how: dict[str, Any], expected: StopReason
) -> None:
    job = await world.load(content, **how)

    assert (job.state, job.stop) == (JobState.FAILED, expected)
    assert job.report.size_bytes == len(content)
    assert job.error is not None
    assert "example.com" not in job.error
    assert await world.everything() == {}
    assert (await read_catalog(world.redis)).audiences == ()


async def test_digest_may_be_of_the_text_within_an_archive(world: Ingest) -> None:
    """
    The document names the file `<digest>.txt`, and lets it be compressed.
    """
    job = await world.load(gz_of(TEXT), described=TEXT, records=2000)

    assert job.state is JobState.DONE


async def test_file_that_is_gone_is_not_found(world: Ingest) -> None:
    job = await world.delivered()
    await world.blobs.delete(job.blob)

    assert (await world.carried(job)).stop is StopReason.FILE_NOT_FOUND


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TEXT.replace(b"\n", b"\r"), id="old Mac line ends"),
        pytest.param(TEXT.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(TEXT.decode().replace("\n", "\r\n").encode("utf-16-be"), id="UTF-16, no mark"),
        pytest.param(gz_of(b"\xef\xbb\xbfhem\n" + TEXT), id="byte order mark and header, gz"),
    ],
)
async def test_text_is_loaded_as_spreadsheets_write_it(world: Ingest, content: bytes) -> None:
    job = await world.load(content, records=len(HASHES))

    assert (job.state, job.report.rows, job.report.bad) == (JobState.DONE, len(HASHES), 0)


async def test_header_is_reported_and_quoted_only_if_we_know_the_name(world: Ingest) -> None:
    known = await world.load(b"email_sha256\n" + TEXT)
    other = await world.load(b"Ada Lovelace\n" + TEXT)

    assert (known.report.header_line, known.report.header) == (1, "email_sha256")
    assert (other.report.header_line, other.report.header) == (1, "")


class GatedBlobs(Blobs):
    """Blobs whose readers wait before the first byte until they are let through."""

    def __init__(self, blobs: Blobs) -> None:
        super().__init__(blobs._store, blobs._directory)
        self.gate = threading.Event()
        self.is_read = threading.Event()
        self.opened = 0

    def get(self, name: str) -> Blob:
        self.opened += 1
        return GatedBlob(self, super().get(name))


class GatedBlob(Blob):
    def __init__(self, blobs: GatedBlobs, blob: Blob) -> None:
        super().__init__(blob._store, blob._name, blob.size_bytes)
        self._blobs = blobs

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        assert self._blobs.gate.wait(60)
        length = super().readinto(buffer)
        # Once for its digest, once for its lines.
        if not length and self._blobs.opened > 1:
            self._blobs.is_read.set()
        return length


async def test_counts_are_of_the_whole_file_however_slow_the_ledger_is(world: Ingest) -> None:
    """What was read while a report was on its way to the ledger is in the next."""
    job = await world.delivered(text_of([*HASHES, "x", "y"]))
    blobs = GatedBlobs(world.blobs)

    async def keep_slowly(state: Job) -> None:
        if not blobs.gate.is_set():
            blobs.gate.set()
            await asyncio.to_thread(blobs.is_read.wait, 60)

    done = await run(job, dataclasses.replace(world.tools, blobs=blobs), keep_slowly)

    assert (done.report.rows, done.report.bad) == (len(HASHES) + 2, 2)


async def test_bad_lines_are_counted_and_the_others_loaded(world: Ingest) -> None:
    lines = [*HASHES[:10], "person@example.com", email_hashes(1, "md5")[0], *HASHES[10:20]]

    job = await world.load(text_of(lines))

    assert (job.report.rows, job.report.valid, job.report.added) == (22, 20, 20)
    assert job.report.bad_lines == (
        BadLine(11, BadLineReason.EMAIL_ADDRESS),
        BadLine(12, BadLineReason.OTHER_HASH),
    )


async def test_person_who_opted_out_is_refused_and_counted(world: Ingest) -> None:
    out = ids_of(HASHES[:5])
    writer = Writer(world.redis, world.meta)
    await writer.opt_out(out[:3], OptOut(EVERYONE, OptOutAction.RESTRICT))
    await writer.opt_out(out[3:], OptOut(world.partner.id, OptOutAction.ERASURE))

    job = await world.load()

    assert (job.report.added, job.report.refused) == (1995, 5)
    assert all(not found.memberships for found in await world.records(HASHES[:5]))


async def test_repeated_file_changes_nothing(world: Ingest) -> None:
    await world.load()
    first = await world.everything()

    job = await world.load()

    assert (job.report.added, job.report.unchanged) == (0, 2000)
    assert await world.everything() == first


async def test_duplicates_are_counted_wherever_they_stand(world: Ingest) -> None:
    upper = [digest.upper() for digest in HASHES[:300]]

    job = await world.load(
        text_of([*HASHES, *upper, HASHES[0]]), segments=[("1", "add"), ("2", "add")]
    )

    assert (job.report.valid, job.report.written) == (2301, 2301)
    assert (job.report.duplicates, job.report.added) == (301, 4000)


async def test_what_is_no_record_does_not_outlive_the_job(world: Ingest) -> None:
    """
    What a partner sends by mistake is most often plain addresses.
    """
    job = await world.load(b"leaver@acme.example\n" + TEXT + b"another@acme.example,x\n")

    [kept] = [world.blobs.get(name).read() for name in await world.blobs.names()]
    assert (job.state, job.report.is_ids, job.report.bad) == (JobState.DONE, True, 2)
    assert kept is not None
    assert sorted(ids_of(HASHES)) == sorted(kept[at : at + 16] for at in range(0, len(kept), 16))


async def test_loader_that_loses_its_lease_while_it_copies_ids_leaves_the_file_alone(
    world: Ingest, tmp_path: Path
) -> None:
    """
    A copy may take longer than a lease: the job is kept meanwhile, and who lost it stops.
    """

    class Slow(Blobs):
        async def put(self, name: str, chunks: Any) -> Any:
            lost.set()
            return await super().put(name, chunks)

    lost, job = asyncio.Event(), await world.delivered()
    blobs = Slow.in_directory(tmp_path / "blobs")
    tools = Tools(**{**vars(world.tools), "blobs": blobs})

    async def keep(state: Job) -> None:
        if lost.is_set() and not state.report.is_ids:
            raise Killed

    with pytest.raises(Killed):
        await run(job, tools, keep)

    assert job.blob in await world.blobs.names()


async def test_original_is_there_until_the_last_write(world: Ingest) -> None:
    """
    A job that broke off, or is held, may need it.
    """
    job = await world.delivered()
    with pytest.raises(Killed):
        await world.carried(job, kill_after=3)

    assert await world.blobs.names() == [job.blob]


@pytest.mark.parametrize("kill_after", [0, 1, 7])
async def test_killed_and_run_again_ends_like_one_clean_run(world: Ingest, kill_after: int) -> None:
    lines = [*HASHES, *HASHES[:100], "x"]
    segments = [("1", "add"), ("2", "add"), ("1", "remove")]
    clean = await world.load(text_of(lines), segments=segments)
    expected = await world.everything()
    await world.redis.delete(*expected)
    world.kept.clear()

    job = await world.delivered(text_of(lines), segments=segments)
    with pytest.raises(Killed):
        await world.carried(job, kill_after=kill_after)
    assert await world.everything() != expected
    again = await world.carried(world.kept[-1])

    assert await world.everything() == expected
    assert again.state is JobState.DONE
    for count in ("rows", "valid", "bad", "written", "duplicates"):
        assert getattr(again.report, count) == getattr(clean.report, count)


async def test_resumed_job_writes_the_expiry_that_it_began_with(world: Ingest) -> None:
    """
    Though its segment's TTL was changed meanwhile, and days have passed.
    """
    async with world.ledger.begin() as conn:
        audience = await audiences.find_or_create_audience(
            conn, world.partner, world.partner, "123", "Segment 123", now_s=0
        )
        await audiences.set_ttl(conn, audience, 30, now_s=0)
    job = await world.delivered()
    with pytest.raises(Killed):
        await world.carried(job, kill_after=3)

    async with world.ledger.begin() as conn:
        await audiences.set_ttl(conn, audience, 90, now_s=0)
    await world.carried(world.kept[-1])

    expiry_day = day_of(job.created_at_s + 30 * 86_400)
    assert {found.memberships for found in await world.records()} == {((audience.id, expiry_day),)}


async def test_opt_out_between_kill_and_resume_is_heard(world: Ingest) -> None:
    job = await world.delivered()
    with pytest.raises(Killed):
        await world.carried(job, kill_after=3)

    await Writer(world.redis, world.meta).opt_out(
        ids_of(HASHES), OptOut(world.partner.id, OptOutAction.ERASURE)
    )
    await world.carried(world.kept[-1])

    assert all(not found.memberships for found in await world.records())


async def test_job_that_kills_its_loaders_is_given_up(world: Ingest) -> None:
    job = replace(await world.delivered(), checkpoint=Checkpoint(deaths=MAX_DEATHS))

    assert (await world.carried(job)).stop is StopReason.INTERNAL


async def test_job_that_gets_further_is_forgiven_its_deaths(world: Ingest) -> None:
    job = replace(await world.delivered(), checkpoint=Checkpoint(deaths=MAX_DEATHS - 1))

    done = await world.carried(job)

    assert (done.state, done.checkpoint.deaths) == (JobState.DONE, 0)


async def test_corrupt_record_fails_the_job_and_names_its_bucket(world: Ingest) -> None:
    (id_,) = ids_of(HASHES[:1])
    bucket = bucket_of(id_, world.meta.bucket_bits)
    await world.redis.hset(bucket_key(bucket), id_[4:12], b"\xff\xff")

    job = await world.load()

    assert job.stop is StopReason.STORE_CORRUPT
    assert f"bucket {bucket:x}" in (job.error or "")


async def test_same_delivery_again_is_the_unfinished_one(world: Ingest) -> None:
    first = await world.delivered()

    assert await world.delivered() == first
    assert await world.blobs.names() == [first.blob]


async def test_stopping_a_job_while_it_reads_stops_the_reading(world: Ingest) -> None:
    """
    Its thread must not write to a spool that is closed.
    """
    job = await world.delivered(b"x\n" * 5_000_000, records=5_000_000)
    began = asyncio.Event()

    async def keep(state: Job) -> None:
        began.set()
        raise Killed

    with pytest.raises(Killed):
        await run(job, world.tools, keep)

    assert began.is_set()
    assert not [path for path in world.tools.spool_dir.iterdir() if path.is_file()]
