"""The commands on a store that is a Redis Cluster."""

import asyncio
import re
from pathlib import Path

import pytest
from redis.exceptions import AskError

from segments.model.record import NOTHING, Record
from segments.settings import Settings
from segments.store.keys import VERSION, fresh_key
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from segments.upkeep import rebuild
from tests.cluster import TestCluster
from tests.segments.cli.conftest import Command
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    ids_of,
    metadata_of,
    text_of,
)

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time

HASHES = email_hashes(300)


@pytest.fixture
def ok_there(cluster: TestCluster, ok: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command that succeeds, on a cluster; a partner is known already."""
    monkeypatch.setenv("SEGMENTS_REDIS_URL", cluster.url)
    monkeypatch.setenv("SEGMENTS_EXPECTED_IDS", "10000")
    ok("account", "add", "--kind", "advertiser", "--id", PARTNER_ID, "--name", "Partner")
    return ok


def delivered(folder: Path, hashes: list[str], *segments: tuple[str, str]) -> tuple[str, ...]:
    """Write the two files of a delivery; return the arguments that load them."""
    content = text_of(hashes)
    metadata = metadata_of(content, records=len(hashes), segments=segments)
    (folder / "file").write_bytes(content)
    (folder / "file.json").write_bytes(as_json(metadata))
    return ("load", "file", "--metadata", "file.json")


def records() -> list[Record]:
    """Return what the cluster holds of each of `HASHES`."""

    async def read() -> list[Record]:
        async with connect(Settings().store_url) as redis:
            return await read_records(redis, await read_meta(redis), ids_of(HASHES))

    return asyncio.run(read())


def test_files_and_opt_outs_are_kept_swept_scrubbed_and_brought_back(
    cluster: TestCluster, ok_there: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok = ok_there
    assert "600 added" in ok(*delivered(tmp_path, HASHES, ("1", "add"), ("2", "add"))).output
    assert all(cluster.ask(master, "DBSIZE") > 10 for master in cluster.masters())
    ok("restrict", HASHES[0])
    ok("erase", "-", stdin="\n".join(HASHES[1:3]).encode())
    assert "98 removed" in ok(*delivered(tmp_path, HASHES[:100], ("1", "remove"))).output
    ok("audience", "delete", "2", "--partner", PARTNER_ID, "--yes")

    swept = ok("sweep").output
    scrubbed = ok("scrub").output

    found = records()
    assert re.search(r"\d+ buckets: 298 memberships dropped", swept)
    assert "4 lines taken out of 2 files" in scrubbed
    assert [bool(record.memberships) for record in found] == [False] * 100 + [True] * 200
    assert [bool(record.opt_outs) for record in found] == [True] * 3 + [False] * 297
    assert found[3] == NOTHING
    assert {line.split()[0] for line in ok("doctor").stdout.splitlines()} == {"ok"}

    # As long as bids may go on by the last word of a node that is gone.
    monkeypatch.setattr(rebuild, "SETTLE_CLUSTER_S", 0)
    for master in cluster.masters():
        cluster.ask(master, "FLUSHALL")
    assert "of 2 jobs" in ok("rebuild", "--yes").output
    assert records() == found
    assert {line.split()[0] for line in ok("doctor").stdout.splitlines()} == {"ok"}


def test_job_that_is_held_is_released(
    ok_there: Command, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The brake has looked at members on every node."""
    monkeypatch.setenv("SEGMENTS_REMOVE_BRAKE_SHARE", "0.5")
    ok_there(*delivered(tmp_path, HASHES, ("1", "add")))

    held = run(*delivered(tmp_path, HASHES[:240], ("1", "remove")))
    assert "held: it would remove 80% of audience 1's members (240 of 300" in held.output

    ok_there("release", "2")
    assert "240 removed" in ok_there(*delivered(tmp_path, HASHES[:240], ("1", "remove"))).output


def test_doctor_looks_at_every_node(cluster: TestCluster, ok_there: Command, run: Command) -> None:
    ok_there("load", *delivered(Path.cwd(), HASHES, ("1", "add"))[1:])
    last = cluster.masters()[-1]
    cluster.ask(last, "CONFIG SET", "hash-max-listpack-entries", 64)
    try:
        result = run("doctor")
    finally:
        cluster.ask(last, "CONFIG SET", "hash-max-listpack-entries", 512)

    assert result.exit_code == 1
    assert "FAIL  store: persons cost too much memory" in result.stdout


def test_doctor_finds_no_fault_in_a_slot_that_is_on_its_way(
    cluster: TestCluster, ok_there: Command, run: Command
) -> None:
    """Its first node answers ASK for it until the slot is the second's."""
    ok_there("load", *delivered(Path.cwd(), HASHES, ("1", "add"))[1:])
    first, second = cluster.masters()[:2]
    slot = min(cluster.slots_of(first))
    source_id, target_id = cluster.id_of(first), cluster.id_of(second)
    cluster.ask(second, "CLUSTER SETSLOT", slot, "IMPORTING", source_id)
    cluster.ask(first, "CLUSTER SETSLOT", slot, "MIGRATING", target_id)
    for key in first.ask("CLUSTER GETKEYSINSLOT", slot, 100):
        cluster.ask(first, "MIGRATE", "127.0.0.1", second.port, key, 0, 5000)
    try:
        with pytest.raises(AskError):
            first.ask("SETRANGE", fresh_key(slot), 0, "")
        result = run("doctor")
    finally:
        cluster.ask(second, "CLUSTER SETSLOT", slot, "NODE", target_id)
        cluster.ask(first, "CLUSTER SETSLOT", slot, "NODE", target_id)

    assert "ok    store: takes writes" in result.stdout
    assert "ok    store: its user may send all our commands" in result.stdout
    assert "ASK" not in result.stdout
    assert "MOVED" not in result.stdout


def test_doctor_says_that_a_node_is_gone(
    cluster: TestCluster, ok_there: Command, run: Command
) -> None:
    ok_there("load", *delivered(Path.cwd(), HASHES, ("1", "add"))[1:])
    lost = cluster.owner_of(VERSION)
    for node in (*cluster.replicas_of(lost), lost):  # so that nobody takes its place
        node.kill()

    result = run("doctor")

    assert result.exit_code == 1
    assert f"FAIL  store: not all nodes answer: 127.0.0.1:{lost.port} (" in result.stdout
    assert "ok    opt-outs" in result.stdout
    assert "FAIL  catalog: its node does not answer" in result.stdout


def test_a_command_says_in_a_line_that_the_cluster_is_gone(
    ok_there: Command, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_REDIS_URL", "redis+cluster://127.0.0.1:1")

    assert "store: does not answer" in run("doctor").stdout
    assert run("sweep").output == "Error: the store can't be reached; run this again\n"
    restricted = run("restrict", HASHES[0])
    assert restricted.exit_code == 3
    assert "recorded for good, and not in force yet" in restricted.stderr
