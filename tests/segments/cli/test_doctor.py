"""What `rtb-segments doctor` tells an operator."""

import asyncio
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from redis import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts, audiences, jobs, processes, uploads
from segments.ledger.database.engine import open_ledger
from segments.ledger.processes import ProcessKind
from segments.ledger.revision import raise_revision
from segments.model.account import Account, AccountKind
from segments.model.identity import Id, IdentifierKind
from segments.model.job import JobState
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.record import OptOutAction
from segments.projection.catalog import catch_up
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store.servers.connection import connect
from segments.upkeep.doctor.examination import examine
from segments.upkeep.doctor.findings import Deployment, Grade
from tests.edge.test_refusals import BID_RIGHTS
from tests.engines import Engine
from tests.kept_files import kept_files
from tests.segments.cli.conftest import Command
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    metadata_of,
    text_of,
)


@pytest.fixture
def on_engine(engine: Engine, run: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command on a store of each engine, caught up with its ledger."""
    monkeypatch.setenv("SEGMENTS_REDIS_URL", engine.url)

    async def prepare() -> None:
        settings = Settings()
        async with open_ledger(settings.ledger_dsn) as ledger, connect(settings.store_url) as redis:
            await catch_up(ledger, redis, settings.expected_ids)

    asyncio.run(prepare())
    return run


def test_pod_is_examined_as_a_pod(run: Command, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("RTB_FOLLOW", f"file://{tmp_path}/published")
    monkeypatch.setenv("RTB_FOLLOW_KEYS", "A" * 43 + "=")

    result = run("doctor")

    assert result.exit_code == 1
    publication, follower, store = result.stdout.splitlines()
    assert publication.startswith(
        "FAIL  publication: the place that is followed: no such directory"
    )
    assert follower.startswith("FAIL  follower: none runs in SEGMENTS_DATA_DIR")
    assert store.startswith("FAIL  bids: the store does not answer the bid listener")


def test_service_that_is_well_is_said_to_be(on_engine: Command) -> None:
    result = on_engine("doctor")

    assert result.exit_code == 0, result.output
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"ok"}
    assert "ledger" in result.stdout
    assert "buckets are packed" in result.stdout
    assert "power cut" in result.stdout


def test_catalog_that_is_behind_is_wrong_and_says_what_to_do(on_engine: Command) -> None:
    async def add_unpublished() -> None:
        async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
            await raise_revision(conn)

    asyncio.run(add_unpublished())

    result = on_engine("doctor")

    assert result.exit_code == 1
    assert "FAIL  catalog" in result.stdout
    assert "start the loader" in result.stdout


def test_store_that_does_not_run_is_wrong(run: Command) -> None:
    result = run("doctor")

    assert result.exit_code == 1
    assert "FAIL  store: does not answer" in result.stdout
    assert "rtb-segments up" in result.stdout


def test_id_that_is_given_and_a_partners_own_is_named(on_engine: Command) -> None:
    """
    As ids were given before they began at 10^12.
    """

    async def share() -> None:
        async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
            seeded = await seed(conn)
            made = await audiences.find_or_create_audience(
                conn, seeded, seeded, "1", "Boots", now_s=0
            )
            assert made.id == 1
            await uploads.add_upload(
                conn, seeded, made, file_name="a", action=SegmentAction.ADD, hash_type="md5",
                now_s=0, expires_at_s=0,
            )  # fmt: skip
            await jobs.submit(
                conn, door="sftp", partner_id=seeded.id, owner_id=seeded.id, blob="b", sha256="",
                order=Order((SegmentOrder("1", "Boots", SegmentAction.ADD),)), file_name="a",
                now_s=0, metadata={"a": 1},
            )  # fmt: skip

    async def seed(conn: AsyncConnection) -> Account:
        return await accounts.add_account(conn, AccountKind.ADVERTISER, "shop", "Shop", now_s=0)

    before = on_engine("doctor").stdout
    asyncio.run(share())
    after = on_engine("doctor").stdout

    assert "none is both given and a partner's own" in before
    assert "both are one audience: shop 1;" in after


def test_held_jobs_and_dead_processes_are_named(on_engine: Command) -> None:
    async def hold() -> None:
        async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
            shop = await accounts.add_account(conn, AccountKind.ADVERTISER, "shop", "Shop", now_s=0)
            for number in range(3):
                job = await jobs.submit(
                    conn, door="sftp", partner_id=shop.id, owner_id=shop.id, blob="b", sha256="",
                    order=Order((SegmentOrder("1", "Boots", SegmentAction.ADD),)), file_name="a",
                    now_s=0, metadata={"a": number},
                )  # fmt: skip
                if number == 0:
                    await jobs.rewrite(conn, replace(job, state=JobState.HELD))
            await processes.join(
                conn, ProcessKind.LOADER, host="pod-1", pid=7, version="0", now_s=0
            )

    before = on_engine("doctor").stdout
    asyncio.run(hold())
    after = on_engine("doctor").stdout

    assert "ok    jobs: none is held" in before
    assert "warn  jobs: held until an operator looks: job 1 of shop (2 wait behind it);" in after
    assert "rtb-segments release" in after
    assert "ok    processes: none of the control plane runs" in before
    assert "warn  processes: not seen for over 10 s: loader on pod-1 (process 7, for" in after


def test_store_that_refuses_the_bid_listener_is_wrong(
    on_engine: Command, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Everybody else finds it well.
    """
    engine.ask("ACL SETUSER", "bids", "reset", "on", ">sesame", *BID_RIGHTS, "-hget")
    try:
        url = f"redis://bids:%s@127.0.0.1:{engine.port}/0"
        monkeypatch.setenv("RTB_REDIS_URL", url % "sesame")
        no_right = on_engine("doctor")
        monkeypatch.setenv("RTB_REDIS_URL", url % "wrong")
        wrong_password = on_engine("doctor")
        engine.ask("ACL SETUSER", "bids", "+hget")
        monkeypatch.setenv("RTB_REDIS_URL", url % "sesame")
        well = on_engine("doctor")
    finally:
        engine.ask("ACL DELUSER", "bids")

    assert (no_right.exit_code, wrong_password.exit_code, well.exit_code) == (1, 1, 0)
    assert "FAIL  bids: the store refuses the bid listener: NOPERM to HGET; give" in no_right.stdout
    assert "refuses the bid listener: WRONGPASS to AUTH; correct" in wrong_password.stdout
    assert "sesame" not in no_right.stdout + wrong_password.stdout


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        pytest.param(("CONFIG SET", "requirepass", "sesame"), "NOAUTH", id="password"),
        pytest.param(("ACL SETUSER", "default", "-hmget"), "NOPERM to HMGET", id="right"),
    ],
)
def test_store_that_refuses_everybody_is_not_said_to_be_away(
    on_engine: Command, engine: Engine, ask: tuple[str, ...], said: str
) -> None:
    engine.ask(*ask)
    try:
        result = on_engine("doctor")
    finally:
        with Redis.from_url(engine.url, password="sesame" if "sesame" in ask else None) as client:
            client.config_set("requirepass", "")
            client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"])

    assert result.exit_code == 1
    assert f"FAIL  store: refuses: {said}" in result.stdout
    assert "start" not in result.stdout


async def test_service_at_work_is_not_found_ill(on_engine: Command, engine: Engine) -> None:
    """
    Opt-outs come and the catalog changes all the time; what is on its way is no fault.
    """
    del on_engine  # which has laid out the store
    settings = Settings()
    deployment = Deployment(
        settings.ledger_dsn,
        engine.url,
        engine.url,
        False,
        settings.expected_ids,
        settings.blobs_at,
        settings.data_dir,
        settings.reserve_bytes,
    )
    async with open_ledger(settings.ledger_dsn) as ledger, connect(engine.url) as redis:

        async def work() -> None:
            for number in count():
                person = (IdentifierKind.EMAIL, Id(number.to_bytes(16)))
                await record_opt_out(ledger, redis, OptOutAction.RESTRICT, [person])
                async with ledger.begin() as conn:
                    await raise_revision(conn)
                await asyncio.sleep(0.02)
                await catch_up(ledger, redis, settings.expected_ids)

        working = asyncio.create_task(work())
        found = [finding for _ in range(5) async for finding in examine(deployment)]
        working.cancel()
        await asyncio.wait([working])

    assert [finding.what for finding in found if finding.grade is Grade.BAD] == []


def test_file_that_is_gone_or_damaged_is_named(
    on_engine: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable() -> str:  # as with a read-only root file system
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", unusable)
    hashes = email_hashes(20)
    content = text_of(hashes)
    (tmp_path / "a.txt").write_bytes(content)
    on_engine(*("account", "add", "--kind", "advertiser", "--id", PARTNER_ID, "--name", "Partner"))

    def load(segment: str) -> str:
        metadata = metadata_of(content, records=len(hashes), segments=[(segment, "add")])
        (tmp_path / "a.json").write_bytes(as_json(metadata))
        loaded = on_engine("load", str(tmp_path / "a.txt"), "--metadata", str(tmp_path / "a.json"))
        assert loaded.exit_code == 0, loaded.output
        return max(
            map(str, kept_files(tmp_path / "data" / "blobs")),
            key=lambda each: Path(each).stat().st_mtime_ns,
        )

    damaged, gone = Path(load("1")), Path(load("2"))
    before = on_engine("doctor")
    damaged.write_bytes(damaged.read_bytes()[:-7])
    gone.unlink()
    after = on_engine("doctor")
    shutil.rmtree(tmp_path / "data" / "blobs")
    without = on_engine("doctor")

    assert "ok    files: all 2 that a rebuild would read are there" in before.stdout
    assert (after.exit_code, without.exit_code) == (1, 1)
    assert "FAIL  files: missing: job 2 (deliveries/" in after.stdout
    assert "damaged: job 1 (deliveries/" in after.stdout
    assert "FAIL  files: their storage can't be read" in without.stdout
    assert not (tmp_path / "data" / "blobs").exists()


def test_place_where_a_disk_is_not_mounted_is_not_marked_as_ours(
    on_engine: Command, tmp_path: Path
) -> None:
    """
    A marked one would be written to, and hidden when its disk comes back.
    """
    (tmp_path / "a.txt").write_bytes(content := text_of(email_hashes(20)))
    on_engine(*("account", "add", "--kind", "advertiser", "--id", PARTNER_ID, "--name", "Partner"))
    (tmp_path / "a.json").write_bytes(as_json(metadata_of(content, records=20)))
    on_engine("load", str(tmp_path / "a.txt"), "--metadata", str(tmp_path / "a.json"))
    blobs = tmp_path / "data" / "blobs"
    blobs.rename(tmp_path / "on the disk")
    blobs.mkdir()

    found = on_engine("doctor")

    assert list(blobs.iterdir()) == []
    assert found.exit_code == 1
    assert "FAIL  the storage of delivered files is not there; mount it" in found.stdout
