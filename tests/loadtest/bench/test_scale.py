"""The sweeps, small: each point is checked before it is timed, and fails where it is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtest.bench.layouts import BUCKETS, PLAIN, bytes_per_id
from loadtest.bench.stock import crowd, email_hashes, ids_of, requests_of, stock
from segments.ledger.database.engine import open_ledger
from segments.model.identity import id_of_email_hash
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.servers.connection import connect

IDS = 10_000


def test_every_person_is_asked_for_once() -> None:
    hashes = email_hashes("group", 12)

    requests = requests_of(hashes, 5, 2_800)

    named = [[digest for digest in hashes if digest.encode() in r.body] for r in requests]
    assert [len(digests) for digests in named] == [5, 5, 2]
    assert [digest for digests in named for digest in digests] == hashes


@pytest.mark.parametrize("size", [2_048, 2_800, 65_536])
def test_request_is_as_large_as_asked_for(size: int) -> None:
    [request] = requests_of(email_hashes("group", 1), 1, size)

    assert size - 40 < len(request.body) <= size


def test_ids_of_persons_are_those_that_the_service_looks_up() -> None:
    hashes = email_hashes("group", 3)

    assert [bytes(row) for row in ids_of(hashes)] == [id_of_email_hash(h) for h in hashes]
    assert len(np.unique(crowd(1_000), axis=0)) == 1_000


async def test_bucket_takes_less_than_any_plain_layout(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("s"),
        redis_url=None,
        ledger_url=None,
        blob_url=None,
        expected_ids=IDS,
    )
    store = EmbeddedStore(settings.data_dir)
    await store.start()
    try:
        async with connect(settings.store_url) as redis, open_ledger(settings.ledger_dsn) as ledger:
            held = await stock(ledger, redis, settings)
            keys_before = await redis.dbsize()
            weighed = await bytes_per_id(redis, held, crowd(IDS), 5)
            keys_after = await redis.dbsize()
    finally:
        await store.stop()

    assert weighed.keys() == {BUCKETS, *PLAIN}
    assert 15 < weighed[BUCKETS] < 45
    assert all(weighed[name] > 60 for name in PLAIN)
    assert keys_after == keys_before


@pytest.mark.long
@pytest.mark.timeout(600)
def test_scale_prints_every_table_and_draws_every_file(tmp_path: Path) -> None:
    options = ["--persons=10000", "--requests=1000", "--rounds=1", "--seconds=1"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "scale", f"--output={tmp_path}", *options],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "ids-per-request.png",
        "segments-per-person.png",
        "request-size.png",
        "connections.png",
        "persons.png",
        "bytes-per-id.png",
    }
    assert done.stdout.count("at most x^") == 5 * 3 + 1 + len(PLAIN)
