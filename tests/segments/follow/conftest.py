"""A publisher and a follower, each with a store of its own, and a directory between them."""

import time
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis

from segments.files.published_place import PublishedPlace
from segments.follow.follower import Follower
from segments.publish.options import PublishOptions
from segments.publish.publisher import Publisher
from segments.settings import Settings
from segments.store import keys
from segments.store.published.latest import Keys, public_text
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.segments.upkeep.histories import History, begun

KEY = Ed25519PrivateKey.generate()
TRUSTED = Keys.of([public_text(KEY.public_key())])
MAX_AGE_S = 900.0
PATIENCE_S = 2.0
"""With a directory of this machine: where nothing hangs, it answers within milliseconds."""
AT_ONCE = PublishOptions(opt_outs_every_s=0, changes_every_s=0)

Dump = dict[bytes, dict[bytes, bytes]]


@pytest.fixture
async def redis(valkey: Engine) -> AsyncIterator[Redis]:
    """The store that is published."""
    async with connect(valkey.url) as client:
        yield client


@pytest.fixture(scope="session")
def pod_server() -> Iterator[Engine]:
    """A server that keeps nothing, as in a pod; take `pod` instead."""
    engine = Engine("valkey", extra=["--appendonly", "no"])
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture
async def pod(pod_server: Engine) -> AsyncIterator[Redis]:
    """The store that follows."""
    pod_server.start()
    async with connect(pod_server.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def history(settings: Settings, redis: Redis) -> AsyncIterator[History]:
    async with begun(settings, redis) as history:
        yield history


@dataclass
class Clock:
    """A wall clock that tests set forward."""

    ahead_s: float = 0.0

    def now_s(self) -> float:
        return time.time() + self.ahead_s

    def monotonic_s(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass
class Link:
    """What stands between a ledger's store and a pod's."""

    history: History
    pod: Redis
    tmp_path: Path
    url: str
    clock: Clock = field(default_factory=Clock)
    spools: int = 0

    @property
    def directory(self) -> Path:
        return self.tmp_path / "published"

    def publisher(
        self,
        names: Collection[str] | None = None,
        options: PublishOptions = AT_ONCE,
        name: str = "test",
    ) -> Publisher:
        """Start a publisher."""
        spool_dir = self._spool("publish")
        return Publisher(
            self.history.ledger,
            self.history.redis,
            PublishedPlace(self.url, is_made=True),
            KEY,
            names,
            spool_dir,
            options,
            name=name,
            now_s=self.clock.now_s,
        )

    def follower(self, trusted: Keys = TRUSTED, spool_dir: Path | None = None) -> Follower:
        """Start a follower."""
        return Follower(
            self.pod,
            PublishedPlace(self.url, within_s=PATIENCE_S),
            trusted,
            spool_dir or self._spool("follow"),
            max_age_s=MAX_AGE_S,
            now_s=self.clock.now_s,
            monotonic_s=self.clock.monotonic_s,
            settle_s=0,
        )

    async def followed(self) -> Dump:
        """Return every record of the pod's store, as its bytes."""
        names = [name async for name in self.pod.scan_iter(match=keys.BUCKET_PREFIX + b"*")]
        return {name: await self.pod.hgetall(name) for name in names}  # type: ignore[misc]

    def _spool(self, of: str) -> Path:
        self.spools += 1
        path = self.tmp_path / f"{of}-{self.spools}"
        path.mkdir()
        return path


@pytest.fixture
def link(history: History, pod: Redis, tmp_path: Path) -> Link:
    """A directory between the two."""
    return Link(history, pod, tmp_path, f"file://{tmp_path}/published")
