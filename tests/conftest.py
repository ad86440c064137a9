"""Fixtures that every test may use: the store engines, running for real."""

import logging
import math
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import hypothesis
import pytest
from redis.asyncio import Redis

from segments.store.meta import prepare
from segments.store.reader import Meta
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.cluster import TestCluster, running_cluster
from tests.engines import ENGINES, Engine
from tests.postgres import Postgres
from tests.s3 import s3_server

# Two shared cores: how long an example took says what else ran. What hangs, pytest-timeout ends.
hypothesis.settings.register_profile("ours", deadline=None)
# `.ci/run` judges a commit, so it draws the same examples each time; everybody else searches on.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ours"))

pytest_plugins = ["tests.unpassed"]

EXPECTED_IDS = 10_000
"""Sizes the stores of the tests: few buckets, so that they fill."""


_LOGGERS = (
    "",
    "rtb",
    "segments",
    "alembic.runtime.migration",
    "alembic.runtime.plugins",
    "asyncssh",
)
"""Those whose level a process sets: see `segments.runtime.log_lines`."""

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 8 << 30
_CGROUP = Path("/sys/fs/cgroup")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test what is out of date, and let files lie in memory where there is enough."""
    _refuse_stale_modules()
    is_worker = hasattr(config, "workerinput")  # of xdist; it has our environment
    if not is_worker and "TMPDIR" not in os.environ and _has_memory_to_spare():
        # A ledger waits for the disk at each commit, 2.6 ms for 0.01; a database of PostgreSQL
        # takes 0.4 s to make for 0.04.
        folder = tempfile.mkdtemp(prefix="t-", dir=_MEMORY)
        Path(folder).chmod(0o711)  # PostgreSQL is run by another user
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        # Pytest's own name for it is longer than the path of a unix socket may grow to.
        config.option.basetemp = config.option.basetemp or f"{folder}/p"
        config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))


@pytest.hookimpl(tryfirst=True)  # before pytest looks for what is long
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Leave to the long tests what a test does on PostgreSQL after its first parameters.

    What the databases do differently, a test meets with any parameters or with none.
    """
    seen = set()
    for item in items:
        if isinstance(item, pytest.Function) and _is_on_postgres(item):
            if (test := (item.path, item.originalname)) in seen:
                item.add_marker(pytest.mark.long)
            seen.add(test)


def _is_on_postgres(item: pytest.Function) -> bool:
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(isinstance(value, str) and value == "postgresql" for value in values)


def _has_memory_to_spare() -> bool:
    return (
        _MEMORY.is_dir()
        and shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES
        and _bytes_left_to_the_container() >= _ENOUGH_BYTES
    )


def _bytes_left_to_the_container() -> float:
    # Files in memory count as the container's, and a container at its limit stands still.
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if not limit.exists() or (most := limit.read_text().strip()) == "max":
        return math.inf
    return int(most) - int(used.read_text())


def _refuse_stale_modules() -> None:
    # It would be the old code that is tested.
    root = Path(__file__).parents[1]
    stale = [
        str(source.relative_to(root))
        for package in ("rtb", "segments")
        for compiled in (root / package).rglob("*.so")
        for suffix in (".py", ".pyx", ".pxd")
        if (source := compiled.with_suffix("").with_suffix(suffix)).exists()
        and compiled.stat().st_mtime < source.stat().st_mtime
    ]
    if stale:
        pytest.exit(
            f"newer than what was compiled of them: {', '.join(sorted(stale))}; compile anew with"
            " `make test`, or do without with `make interpreted`",
            returncode=3,
        )


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """
    Give back the log that a test has set, such as by a command within this process.

    Otherwise the next tests would miss what is logged below that level.
    """
    handlers = logging.getLogger().handlers[:]
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session", params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """The name of each engine; for tests that start a server of their own."""
    name: str = request.param
    return name


@pytest.fixture(scope="session", params=["valkey", pytest.param("redis", marks=pytest.mark.long)])
def several_engine_name(request: pytest.FixtureRequest) -> str:
    """The same for stores of several servers: what these do among themselves takes seconds."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def engine_server(engine_name: str) -> Iterator[Engine]:
    """One server of each engine for the session of an xdist worker; take `engine` instead."""
    yield from _running(engine_name)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Engine]:
    """The embedded engine alone; take `valkey` instead."""
    yield from _running("valkey")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for the session of an xdist worker; take `postgres` instead."""
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def postgres(postgres_server: Postgres) -> Postgres:
    """A running PostgreSQL, whatever the test before has done to it."""
    postgres_server.start()
    return postgres_server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_server() as url:
        yield url


@pytest.fixture
def engine(engine_server: Engine) -> Engine:
    """A running, empty store, once of each engine: for what depends on the engine."""
    engine_server.reset()
    return engine_server


@pytest.fixture
def valkey(valkey_server: Engine) -> Engine:
    """A running, empty store of the embedded engine: for all other tests."""
    valkey_server.reset()
    return valkey_server


@pytest.fixture(scope="session")
def cluster_server(several_engine_name: str) -> Iterator[TestCluster]:
    """A cluster of each engine for the session of an xdist worker; take `cluster` instead."""
    with running_cluster(several_engine_name) as cluster:
        yield cluster


@pytest.fixture
def cluster(cluster_server: TestCluster) -> TestCluster:
    """A running, empty cluster, whatever the test before has done to it."""
    cluster_server.heal()
    return cluster_server


@pytest.fixture
async def redis_client(engine: Engine) -> AsyncIterator[Redis]:
    """A client of `engine`, as the product makes it."""
    async with connect(engine.url) as client:
        yield client


@pytest.fixture
async def meta(redis_client: Redis) -> Meta:
    """The meta of `engine`, prepared for writing."""
    return await prepare(redis_client, EXPECTED_IDS)


@pytest.fixture
def writer(redis_client: Redis, meta: Meta) -> Writer:
    """A writer to `engine`."""
    return Writer(redis_client, meta)


def _running(name: str) -> Iterator[Engine]:
    engine = Engine(name)
    engine.start()
    yield engine
    engine.remove()
