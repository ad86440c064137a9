"""
How fast a store is published and followed, and how long its files are.

    few histories      persons of one audience list share their memberships, as after few files
    random histories   every person has its own audiences and expiry days: hardly two are equal

Each store is published for a recipient that sees all audiences, and followed into another store.
Then every bucket is compared.
"""

import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final, NamedTuple
from uuid import uuid4

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.servers import used_bytes
from segments.files.published_place import PublishedPlace
from segments.follow.follower import Follower
from segments.ledger import accounts, audiences, recipients
from segments.ledger.database.engine import open_ledger
from segments.model.account import AccountKind
from segments.model.record import Membership, Record, pack
from segments.projection.catalog import catch_up
from segments.publish.options import PublishOptions
from segments.publish.publisher import Publisher
from segments.settings import Settings
from segments.store import keys
from segments.store.embedded import EmbeddedStore
from segments.store.meta import mark_filled
from segments.store.published.latest import Keys, public_text
from segments.store.reader import read_meta
from segments.store.restore_payload import payload_of, record_entry
from segments.store.servers.connection import connect

_MOST_AUDIENCES: Final = 1_000
_PERSONS_AN_AUDIENCE: Final = 500
_COHORTS: Final = 96
_FIRST_DAY: Final = 2_500
_DAYS: Final = 60
RECIPIENT: Final = "bidder"
_BUCKETS_AT_ONCE: Final = 64
_COMPARED_AT_ONCE: Final = 256


_ONCE: Final = PublishOptions()


class NotFollowed(Exception):
    """A followed store differs from the published store."""


class Took(NamedTuple):
    """Of a step, in seconds."""

    wall_s: float
    cpu_s: float  # of this process, all threads
    store_cpu_s: float


class Measured(NamedTuple):
    """One store, published and followed."""

    histories: str
    ids: int
    file_bytes: int
    made: Took
    followed: Took
    source_bytes: int
    followed_bytes: int


@dataclass(frozen=True)
class Published:
    """A store with persons, and its publisher's needs."""

    root: Path
    ledger: AsyncEngine
    redis: Redis
    audience_ids: list[int]
    persons: int
    bucket_bits: int
    store_pid: int
    key: Ed25519PrivateKey

    @property
    def socket(self) -> str:
        """The path of the store's socket."""
        return self.url_of_store.removeprefix("unix://")

    @property
    def url_of_store(self) -> str:
        """The store's URL."""
        return Settings(data_dir=self.root / "source", redis_url=None).store_url

    @property
    def url(self) -> str:
        """The place that is published to."""
        return f"file://{self.root}/published"

    def publisher(self, options: PublishOptions = _ONCE) -> Publisher:
        """Return a publisher whose recipient sees all audiences; starts with a full."""
        return Publisher(
            self.ledger,
            self.redis,
            PublishedPlace(self.url, is_made=True),
            self.key,
            [RECIPIENT],
            self.root / "spool",
            options,
            name=uuid4().hex,
            now_s=time.time,
        )


@asynccontextmanager
async def published(
    root: Path, histories: str, ids: int, segments_per_id: int
) -> AsyncIterator[Published]:
    """
    Fill a store of about `ids` persons in `root`, an empty directory; `histories`: `few` or
    `random`.
    """
    async with _source(root / "source", ids) as (ledger, redis):
        numbers = await _make_audiences(ledger, redis, ids)
        held = await _fill(redis, ids, _records(histories, numbers, segments_per_id))
        (root / "spool").mkdir()
        bits = (await read_meta(redis)).bucket_bits
        pid = int((await redis.info("server"))["process_id"])
        key = Ed25519PrivateKey.generate()
        yield Published(root, ledger, redis, numbers, held, bits, pid, key)


async def measure(histories: str, ids: int, segments_per_id: int) -> Measured:
    """
    Publish a store as of `published`, and follow it.

    Raises:
        NotFollowed: A bucket differs.
    """
    with tempfile.TemporaryDirectory(prefix="publish-") as folder:
        root = Path(folder)
        async with (
            published(root, histories, ids, segments_per_id) as made,
            _store(root / "pod") as pod,
        ):
            publisher = made.publisher()
            made_in = await _took(publisher.step(), made.redis)
            assert publisher.latest is not None, "a step publishes a full"
            (root / "followed").mkdir()
            follower = Follower(
                pod,
                PublishedPlace(made.url),
                Keys.of([public_text(made.key.public_key())]),
                root / "followed",
                max_age_s=900,
                now_s=time.time,
                monotonic_s=time.monotonic,
                settle_s=0,
            )
            followed_in = await _took(follower.look(), pod)
            await _compare(made.redis, pod, 1 << made.bucket_bits)
            return Measured(
                histories,
                made.persons,
                publisher.latest.full.size_bytes,
                made_in,
                followed_in,
                await used_bytes(made.redis),
                await used_bytes(pod),
            )


async def _took(step: Awaitable[object], store: Redis) -> Took:
    store_cpu_s, cpu_s, began_s = await _cpu_s(store), time.process_time(), time.perf_counter()
    await step
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return Took(wall_s, cpu_s, await _cpu_s(store) - store_cpu_s)


async def _cpu_s(store: Redis) -> float:
    said = await store.info("cpu")
    return float(said["used_cpu_user"] + said["used_cpu_sys"])


@asynccontextmanager
async def _store(data_dir: Path) -> AsyncIterator[Redis]:
    server = EmbeddedStore(data_dir, is_kept=False)
    await server.start()
    try:
        async with connect(Settings(data_dir=data_dir, redis_url=None).store_url) as redis:
            yield redis
    finally:
        await server.stop()


@asynccontextmanager
async def _source(data_dir: Path, ids: int) -> AsyncIterator[tuple[AsyncEngine, Redis]]:
    settings = Settings(data_dir=data_dir, ledger_url=None, redis_url=None, expected_ids=ids)
    async with open_ledger(settings.ledger_dsn) as ledger, _store(data_dir) as redis:
        yield ledger, redis


async def _make_audiences(ledger: AsyncEngine, redis: Redis, ids: int) -> list[int]:
    async with ledger.begin() as conn:
        partner = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "partner", "Partner", now_s=0
        )
        made = [
            await audiences.find_or_create_audience(
                conn, partner, partner, str(number), "Segment", now_s=0
            )
            for number in range(min(_MOST_AUDIENCES, ids // _PERSONS_AN_AUDIENCE))
        ]
        bidder = await recipients.add_recipient(conn, RECIPIENT, now_s=0)
        await recipients.grant(conn, bidder, partner)
    await catch_up(ledger, redis, ids)
    await mark_filled(redis)
    return [audience.id for audience in made]


def _records(histories: str, numbers: list[int], segments: int) -> Iterator[bytes]:
    rng = Random(1)

    def drawn() -> bytes:
        return pack(
            Record(
                (),
                tuple(
                    Membership(number, _FIRST_DAY + int(rng.random() * _DAYS))
                    for number in sorted(rng.sample(numbers, segments))
                ),
            )
        )

    if histories == "random":
        while True:
            yield drawn()
    cohorts = [drawn() for _ in range(_COHORTS)]
    while True:
        yield cohorts[int(rng.random() * _COHORTS)]


async def _fill(redis: Redis, ids: int, records: Iterator[bytes]) -> int:
    """Fill every bucket; return the number of persons."""
    meta = await read_meta(redis)
    buckets = 1 << meta.bucket_bits
    a_bucket = ids // buckets
    made = []
    for number in range(buckets):
        raw = os.urandom(keys.FIELD_BYTES * a_bucket)
        fields = [raw[at : at + keys.FIELD_BYTES] for at in range(0, len(raw), keys.FIELD_BYTES)]
        entries = list(map(record_entry, islice(records, a_bucket)))
        made.append((number, payload_of(fields, entries)))
        if len(made) == _BUCKETS_AT_ONCE or number + 1 == buckets:
            async with redis.pipeline(transaction=False) as pipeline:
                for n, payload in made:
                    pipeline.execute_command("RESTORE", keys.bucket_key(n), 0, payload)
                await pipeline.execute()
            made = []
    return buckets * a_bucket


async def _compare(source: Redis, pod: Redis, buckets: int) -> None:
    for at in range(0, buckets, _COMPARED_AT_ONCE):
        found = []
        for redis in (source, pod):
            async with redis.pipeline(transaction=False) as pipeline:
                for number in range(at, min(buckets, at + _COMPARED_AT_ONCE)):
                    pipeline.execute_command("HGETALL", keys.bucket_key(number))
                found.append(await pipeline.execute())
        if found[0] != found[1]:
            raise NotFollowed("a bucket of the followed store is another than the published one")


def measure_and_say(ids: int, segments_per_id: int, say: Callable[[str], None]) -> None:
    """
    Measure both histories, and print a table.

    Raises:
        NotFollowed: See `measure`.
    """
    say(
        f"{'histories':12}{'ids':>12}{'bytes/id':>10}{'memory':>8}"
        f"{'made ids/s':>12}{'CPU us/id':>11}{'store':>7}"
        f"{'followed ids/s':>16}{'CPU us/id':>11}{'store':>7}"
    )
    for histories in ("few", "random"):
        row = uvloop.run(measure(histories, ids, segments_per_id))
        say(
            f"{row.histories:12}{row.ids:>12,}{row.file_bytes / row.ids:>10.1f}"
            f"{row.followed_bytes / row.source_bytes:>8.2f}"
            + "".join(
                f"{row.ids / took.wall_s:>{width},.0f}{took.cpu_s / row.ids * 1e6:>11.2f}"
                f"{took.store_cpu_s / row.ids * 1e6:>7.2f}"
                for took, width in ((row.made, 12), (row.followed, 16))
            )
        )
