import asyncio
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from segments.settings import Settings
from segments.store import embedded
from segments.store.embedded import EmbeddedStore, StoreInUse, opened
from segments.store.meta import LISTPACK_LIMITS, prepare
from segments.store.reader import Meta, StoreUnusable
from segments.store.servers.connection import connect
from tests.engines import ENGINES, Engine, binary_of


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory with a short name: that of a socket has 107 bytes at most."""
    path = Path(tempfile.mkdtemp(prefix="seg-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def own(data_dir: Path) -> Settings:
    """Settings of a service with an embedded store."""
    return Settings(data_dir=data_dir, redis_url=None)


@pytest.fixture
async def store(data_dir: Path) -> AsyncIterator[EmbeddedStore]:
    """A running embedded store."""
    store = EmbeddedStore(data_dir)
    await store.start()
    yield store
    await store.stop()


async def pid_of(url: str) -> int:
    """Return the process id of the server that answers at a URL."""
    async with connect(url) as redis:
        return int((await redis.info("server"))["process_id"])


async def is_up(url: str) -> bool:
    """Whether a server answers at a URL."""
    async with connect(url) as redis:
        try:
            await redis.ping()
        except RedisError:
            return False
        return True


@pytest.mark.parametrize("engine_of_store", ENGINES)
async def test_store_is_private_durable_and_packs_well(
    data_dir: Path, own: Settings, engine_of_store: str
) -> None:
    store = EmbeddedStore(data_dir, binary=Path(binary_of(engine_of_store)))
    await store.start()
    try:
        async with connect(own.store_url) as redis:
            config = await redis.config_get("*")
            assert await prepare(redis, 1_000_000) == Meta(13, 0, is_unfilled=True)
    finally:
        await store.stop()

    texts = {str(name): str(value) for name, value in config.items()}
    assert (texts["port"], texts["appendonly"], texts["appendfsync"]) == ("0", "yes", "everysec")
    assert texts["maxmemory-policy"] == "noeviction"
    assert {name: int(texts[name]) for name in LISTPACK_LIMITS} == LISTPACK_LIMITS


async def test_socket_is_for_its_owner_alone(data_dir: Path, store: EmbeddedStore) -> None:
    path = data_dir / "store" / "valkey.sock"

    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_ctrl_c_in_our_terminal_does_not_reach_the_server(
    own: Settings, store: EmbeddedStore
) -> None:
    pid = await pid_of(own.store_url)

    assert os.getsid(pid) == pid


@pytest.mark.parametrize(
    "signal_number",
    [pytest.param(signal.SIGTERM, id="stopped"), pytest.param(signal.SIGKILL, id="killed")],
)
async def test_store_that_ended_starts_again_with_all_its_data(
    own: Settings, store: EmbeddedStore, signal_number: signal.Signals
) -> None:
    async with connect(own.store_url) as redis:
        await redis.set("name", "value")
    os.kill(await pid_of(own.store_url), signal_number)
    await store.wait()

    await store.start()

    async with connect(own.store_url) as redis:
        assert await redis.get("name") == b"value"


async def test_stop_leaves_no_server_and_may_be_repeated(
    own: Settings, store: EmbeddedStore
) -> None:
    await store.stop()
    await store.stop()

    assert await store.wait() == 0
    assert not await is_up(own.store_url)


async def test_two_servers_never_share_a_directory(
    data_dir: Path, own: Settings, store: EmbeddedStore
) -> None:
    pid = await pid_of(own.store_url)

    with pytest.raises(StoreInUse, match=f"process {pid} runs a server on .*store"):
        await EmbeddedStore(data_dir).start(free_within_s=0.1)

    assert await pid_of(own.store_url) == pid


async def test_path_too_long_for_a_socket_is_said_at_once(data_dir: Path) -> None:
    deep = data_dir / ("d" * 100)

    with pytest.raises(StoreUnusable, match="set SEGMENTS_DATA_DIR to a shorter path"):
        await EmbeddedStore(deep).start()

    assert not deep.exists()


async def test_directory_that_cannot_be_made_is_said(data_dir: Path) -> None:
    (data_dir / "store").write_text("a file")

    with pytest.raises(StoreUnusable, match="File exists"):
        await EmbeddedStore(data_dir).start()


async def test_server_that_cannot_read_its_data_says_why(
    data_dir: Path, own: Settings, store: EmbeddedStore
) -> None:
    async with connect(own.store_url) as redis:
        await redis.set("name", "value")
    await store.stop()
    [log] = (data_dir / "store" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*what is this?\r\n" + log.read_bytes())

    with pytest.raises(StoreUnusable, match=r"ended with status 1 .*: .*[Aa]ppend"):
        await store.start()


async def test_file_that_a_power_cut_has_shortened_costs_its_last_change_alone(
    data_dir: Path, own: Settings, store: EmbeddedStore
) -> None:
    async with connect(own.store_url) as redis:
        for number in range(100):
            await redis.set(f"name{number}", "value")
        await store.stop()
        [log] = (data_dir / "store" / "appendonlydir").glob("*.incr.aof")
        os.truncate(log, log.stat().st_size - 5)

        await store.start()

        assert await redis.dbsize() == 99


async def test_file_that_is_damaged_in_the_middle_is_named_with_its_cure(
    data_dir: Path, own: Settings, store: EmbeddedStore
) -> None:
    async with connect(own.store_url) as redis:
        for number in range(100):
            await redis.set(f"name{number}", "value")
        await store.stop()
        folder = data_dir / "store" / "appendonlydir"
        [log] = folder.glob("*.incr.aof")
        content = bytearray(log.read_bytes())
        at = content.index(b"*3\r\n", len(content) // 2)
        content[at : at + 4] = b"\0\0\0\0"
        log.write_bytes(content)

        with pytest.raises(StoreUnusable, match=rf"move {folder} away.*rtb-segments rebuild"):
            await store.start()

        folder.rename(data_dir / "damaged")
        await store.start()
        assert await redis.dbsize() == 0


async def test_server_that_is_none_says_so(data_dir: Path) -> None:
    with pytest.raises(StoreUnusable, match="ended with status 1 as it was started: it said noth"):
        await EmbeddedStore(data_dir, binary=Path("/bin/false")).start()


async def test_cancelled_start_leaves_no_server(data_dir: Path, own: Settings) -> None:
    starting = asyncio.create_task(EmbeddedStore(data_dir).start())
    lock = data_dir / "store" / "lock"
    async with asyncio.timeout(20):
        while not (lock.exists() and lock.read_text()):  # noqa: ASYNC110 - a file tells no one
            await asyncio.sleep(0.001)

    starting.cancel()
    await asyncio.wait([starting])

    assert not await is_up(own.store_url)
    await EmbeddedStore(data_dir).stop()
    again = EmbeddedStore(data_dir)
    await again.start(free_within_s=0)
    await again.stop()


async def test_server_of_a_killed_parent_goes_and_frees_the_directory(
    data_dir: Path, own: Settings
) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(data_dir), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"started\n"
    orphan = await pid_of(own.store_url)

    parent.kill()
    await parent.wait()
    heir = EmbeddedStore(data_dir)
    await heir.start()

    try:
        async with connect(own.store_url) as redis:
            assert await redis.get("name") == b"value"
        assert await pid_of(own.store_url) != orphan
    finally:
        await heir.stop()


PARENT = """
import asyncio, sys
from pathlib import Path
from segments.settings import store_url
from segments.store.servers.connection import connect
from segments.store.embedded import EmbeddedStore

async def run():
    await EmbeddedStore(Path(sys.argv[1])).start()
    async with connect(store_url(None, Path(sys.argv[1]))) as redis:
        await redis.set("name", "value")
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(run())
"""


async def test_command_gets_the_store_that_was_set(valkey: Engine, data_dir: Path) -> None:
    async with opened(valkey.url, data_dir) as redis:
        assert (await redis.info("server"))["process_id"] == valkey.pid

    assert valkey.is_running
    assert not (data_dir / "store").exists()


async def test_command_gets_the_embedded_store_that_runs(
    own: Settings, store: EmbeddedStore
) -> None:
    pid = await pid_of(own.store_url)

    async with opened(own.redis_url, own.data_dir) as redis:
        assert (await redis.info("server"))["process_id"] == pid

    assert await pid_of(own.store_url) == pid


async def test_command_alone_gets_a_store_of_its_own_for_as_long_as_it_runs(own: Settings) -> None:
    async with opened(own.redis_url, own.data_dir) as redis:
        await redis.set("name", "value")
    was_up_between = await is_up(own.store_url)

    async with opened(own.redis_url, own.data_dir) as redis:
        assert await redis.get("name") == b"value"
    assert not was_up_between


async def test_command_that_started_the_store_waits_for_the_others(own: Settings) -> None:
    """
    Else the account command that was quick would pull the store from under a long load.
    """
    first_is_in, first_may_end = asyncio.Event(), asyncio.Event()
    second_is_in, second_may_end = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with opened(own.redis_url, own.data_dir):
            first_is_in.set()
            await first_may_end.wait()

    async def second() -> None:
        async with opened(own.redis_url, own.data_dir) as redis:
            second_is_in.set()
            await second_may_end.wait()
            await redis.set("name", "value")

    first_task = asyncio.create_task(first())
    await first_is_in.wait()
    second_task = asyncio.create_task(second())
    await second_is_in.wait()

    first_may_end.set()
    done, _ = await asyncio.wait([first_task], timeout=0.3)
    second_may_end.set()
    await asyncio.gather(first_task, second_task)

    assert done == set()
    assert not await is_up(own.store_url)


async def test_commands_that_start_at_once_share_one_store(own: Settings) -> None:
    async def pid() -> int:
        async with opened(own.redis_url, own.data_dir) as redis:
            await all_are_in.wait()
            return int((await redis.info("server"))["process_id"])

    all_are_in = asyncio.Barrier(3)

    first, second, third = await asyncio.gather(pid(), pid(), pid())

    assert first == second == third


async def test_old_lines_of_the_log_are_not_the_reason_of_today(
    data_dir: Path, store: EmbeddedStore
) -> None:
    await store.stop()
    assert (data_dir / "store" / "valkey.log").read_text()

    with pytest.raises(StoreUnusable, match="it said nothing"):
        await EmbeddedStore(data_dir, binary=Path("/bin/false")).start()


def test_socket_is_where_the_settings_say(data_dir: Path, own: Settings) -> None:
    assert own.store_url == f"unix://{EmbeddedStore(data_dir)._socket}"


def test_bound_of_the_path_is_the_kernels() -> None:
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError, match="too long"):
        probe.bind("x" * (embedded.MAX_SOCKET_PATH_BYTES + 1))


async def test_store_that_follows_is_not_begun_over_one_that_is_kept(data_dir: Path) -> None:
    kept = EmbeddedStore(data_dir)
    await kept.start()
    await kept.stop()

    with pytest.raises(StoreUnusable, match="SEGMENTS_DATA_DIR"):
        await EmbeddedStore(data_dir, is_kept=False).start()
