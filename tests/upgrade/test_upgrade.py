"""What the release before has left, or still does, works with this one."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from rtb.settings import RtbSettings
from segments.files.blobs import Blobs
from segments.ingest.tools import Tools
from segments.ledger.database.copying import as_it_is, revision_of
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.migrations import HEAD
from segments.projection.catalog import catch_up
from segments.runtime.settings_reader import settings_of
from segments.settings import Settings
from segments.store import keys
from segments.store.embedded import opened
from segments.upkeep.rebuild import rebuild
from tests.e2e.service import Service, bid_request
from tests.engines import Engine, start_lasting
from tests.segments.upkeep.backup.conftest import Vault
from tests.upgrade import earlier

KNOWN, RESTRICTED, ERASED, UNKNOWN = (f"person{n}@example.com" for n in (60, 0, 1, 199))


async def shown(service: Service, email: str) -> list[str]:
    """Return the segments that a bid shows of a person."""
    answer = await service.bid(bid_request(email), "dsp-a")
    return answer.segment_ids.get("shop", [])


async def dump(redis: Redis) -> dict[bytes, dict[bytes, bytes]]:
    names = [name async for name in redis.scan_iter(match=keys.BUCKET_PREFIX + b"*")]
    return {name: await redis.hgetall(name) for name in names}  # type: ignore[misc]


async def test_deployment_of_the_release_before_is_migrated_and_served(tmp_path: Path) -> None:
    earlier.unpack_sample(tmp_path / "data")
    service = Service(tmp_path, SEGMENTS_EXPECTED_IDS=earlier.EXPECTED_IDS)

    async with service.running():
        await service.until("enriched", bid_request(KNOWN), "dsp-a")
        found = {email: await shown(service, email) for email in (RESTRICTED, ERASED, UNKNOWN)}
        known = await shown(service, KNOWN)

    assert sorted(known) == ["123", "456"]
    assert found == {RESTRICTED: [], ERASED: [], UNKNOWN: []}


async def test_store_of_the_release_before_is_the_one_that_this_one_rebuilds(
    tmp_path: Path,
) -> None:
    earlier.unpack_sample(tmp_path / "data")
    settings = Settings(data_dir=tmp_path / "data", expected_ids=int(earlier.EXPECTED_IDS))

    async with (
        open_ledger(settings.ledger_dsn) as ledger,
        opened(None, settings.data_dir) as redis,
    ):
        # No store ran while the opt-outs of the sample were recorded.
        await catch_up(ledger, redis, settings.expected_ids)
        before = await dump(redis)
        blobs = Blobs.in_directory(settings.data_dir / "blobs")
        tools = Tools(ledger, redis, blobs, settings.spool_dir, lambda: 1_780_000_000.0)
        await rebuild(tools, settings.expected_ids, settle_s=0)

        assert await dump(redis) == before
    assert before


async def test_ledger_is_backed_up_before_the_upgrade_as_it_is(tmp_path: Path) -> None:
    earlier.unpack_sample(tmp_path / "data")
    settings = Settings(data_dir=tmp_path / "data")
    vault = Vault(settings, tmp_path / "backups", None)

    taken = await vault.take()

    async with as_it_is(settings.ledger_dsn) as ledger, reading(ledger) as conn:
        assert await revision_of(conn) == taken.manifest.revision < HEAD
    vault.destroy()
    await vault.restore()
    async with open_ledger(settings.ledger_dsn) as ledger, reading(ledger) as conn:
        assert await revision_of(conn) == HEAD


def test_settings_of_the_release_before_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (earlier.FOLDER / f"release-{earlier.VERSION}.env").read_text().splitlines()
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("\n".join(lines))
    page = (earlier.ROOT / "docs" / "upgrade.md").read_text()
    settings = (earlier.ROOT / "docs" / "settings.md").read_text()
    names = {line.removeprefix("# ").partition("=")[0] for line in lines}

    settings_of(RtbSettings)
    settings_of(Settings)

    assert {name for name in names if f"`{name}`" not in settings} == earlier.NO_LONGER_READ
    assert all(f"`{name}`" in page for name in earlier.NO_LONGER_READ)


@pytest.mark.long
@pytest.mark.skipif(not earlier.has_code(), reason="the history here begins later")
async def test_processes_of_the_release_before_go_on_while_this_one_takes_over(
    tmp_path: Path, valkey: Engine
) -> None:
    """Rolling: the ledger is migrated under them, and both answer bids from one store."""
    earlier.unpack_code(tmp_path / "tree")
    (tmp_path / "old").mkdir()
    environment = {"SEGMENTS_REDIS_URL": valkey.url, "SEGMENTS_DATA_DIR": str(tmp_path / "data")}
    earlier.make_sample(tmp_path / "tree", tmp_path / "scratch", **environment)
    old = Service(tmp_path / "old", **environment)
    new = Service(tmp_path, **environment)
    processes = [
        start_lasting(
            [sys.executable, "-m", "segments", name], cwd=tmp_path / "tree", env=old.environment
        )
        for name in ("loader", "serve")
    ]
    try:
        await until_it_shows(old, KNOWN, ["123", "456"])
        async with new.running():  # over the store that is set, and so without one of its own
            await until_it_shows(new, KNOWN, ["123", "456"])
            await new.command("restrict", *hashes(KNOWN))
            await until_it_shows(old, KNOWN, [])
            await new.load(["new@example.com"], [("789", "add")], "shop")
            await until_it_shows(old, "new@example.com", ["789"])
            await until_it_shows(new, "new@example.com", ["789"])
            assert [process.poll() for process in processes] == [None, None]
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [await asyncio.to_thread(p.wait, 60) for p in processes] == [0, 0]


def hashes(email: str) -> list[str]:
    [eid] = bid_request(email)["user"]["eids"]
    return [eid["uids"][0]["id"]]


async def until_it_shows(service: Service, email: str, segments: list[str]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if sorted(await shown(service, email)) == segments:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.05)
