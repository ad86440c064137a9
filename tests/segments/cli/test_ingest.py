"""
`load`, `status` and `loader` as processes of their own, on the embedded store.
"""

import asyncio
import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segments.ledger.database.engine import open_ledger
from segments.settings import Settings
from segments.store.embedded import opened
from tests.commands import run_command
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    gz_of,
    metadata_of,
    text_of,
)

WITHIN_S = 60
ROWS = 200_000
"""Enough for batches between which it can be killed."""

TWO_SEGMENTS = [("1", "add"), ("2", "add")]


class Host:
    """A folder with a data directory, where commands are typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(data_dir=folder / "data", redis_url=None)
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SEGMENTS_")},
            "SEGMENTS_DATA_DIR": str(folder / "data"),
            "TERM": "xterm",
        }

    def make_ledger(self) -> None:
        """Make what no command makes but `up` and the processes that it runs."""

        async def make() -> None:
            async with open_ledger(self.settings.ledger_dsn):
                pass

        asyncio.run(make())

    def start(
        self, *arguments: str, stderr: int = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "segments", *arguments],
            cwd=self.folder,
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        env = {**self._environment, **environment}
        done = run_command(*arguments, env=env, cwd=self.folder, within_s=WITHIN_S)
        said = done.stdout + done.stderr
        assert done.returncode == status, said
        assert "Traceback" not in said
        return said

    def deliver(self, content: bytes, records: int, **fields: Any) -> tuple[str, ...]:
        """Write the two files of a delivery; return the arguments that load them."""
        (self.folder / "file").write_bytes(content)
        metadata = metadata_of(content, records=records, **fields)
        (self.folder / "file.json").write_bytes(as_json(metadata))
        return ("load", "file", "--metadata", "file.json")

    def job(self) -> dict[str, Any]:
        """Return the latest job as the ledger has it."""
        with sqlite3.connect(self.settings.data_dir / "ledger.db") as ledger:
            ledger.row_factory = sqlite3.Row
            row = ledger.execute("select * from jobs order by id desc").fetchone()
        ledger.close()
        return {} if row is None else dict(row)

    def until(self, claim: Callable[[dict[str, Any]], object]) -> None:
        """Wait until the latest job is as claimed."""
        give_up_at_s = time.monotonic() + WITHIN_S
        while not claim(self.job()):
            assert time.monotonic() < give_up_at_s
            time.sleep(0.005)

    def everything(self) -> dict[bytes, list[tuple[Any, Any]]]:
        """Return all buckets of the store, byte for byte."""

        async def read() -> dict[bytes, list[tuple[Any, Any]]]:
            async with opened(self.settings.redis_url, self.settings.data_dir) as redis:
                keys = sorted(
                    [key async for key in redis.scan_iter(match=b"seg:1:m:*", count=5000)]
                )
                async with redis.pipeline(transaction=False) as pipeline:
                    for key in keys:
                        pipeline.hgetall(key)
                    buckets = await pipeline.execute()
            return {k: sorted(bucket.items()) for k, bucket in zip(keys, buckets, strict=True)}

        return asyncio.run(read())


@contextmanager
def new_host(data: Path | None = None) -> Iterator[Host]:
    # Short: the store's socket lies below it.
    folder = Path(tempfile.mkdtemp(prefix="seg-"))
    if data is not None:
        shutil.copytree(data, folder / "data")
    yield Host(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def partner() -> Iterator[Path]:
    """The data directory of a host with one partner."""
    with new_host() as host:
        host.make_ledger()
        host.run("account", "add", "--kind", "advertiser", "--id", PARTNER_ID, "--name", "Partner")
        yield host.folder / "data"


@pytest.fixture
def host(partner: Path) -> Iterator[Host]:
    """A host with one partner."""
    with new_host(partner) as host:
        yield host


@pytest.fixture(scope="module")
def clean(partner: Path) -> dict[bytes, list[tuple[Any, Any]]]:
    """What the store holds after a large file was loaded into two segments, undisturbed."""
    with new_host(partner) as host:
        host.run(*host.deliver(many_hashes(), ROWS, segments=TWO_SEGMENTS))
        return host.everything()


def many_hashes() -> bytes:
    """Write a large file of MD5, always the same one."""
    digits = np.frombuffer(np.random.default_rng(7).bytes(ROWS * 16).hex().encode(), np.uint8)
    line_ends = np.full((ROWS, 1), ord("\n"), np.uint8)
    return np.concatenate([digits.reshape(ROWS, 32), line_ends], axis=1).tobytes()


def checkpoint_of(job: dict[str, Any]) -> int:
    return int(json.loads(job.get("checkpoint") or "{}").get("next_part", 0))


def test_load_reports_what_it_did(host: Host) -> None:
    content = gz_of(text_of([*email_hashes(1000), "person@example.com", *email_hashes(10)]))

    said = host.run(*host.deliver(content, 1011, segments=[("5", "add"), ("x", "add")]))

    assert "done" in said
    assert "1,011, of them 1,010 valid and 1 bad" in said
    assert "10 duplicates" in said
    assert "1,000 added" in said
    assert "segment 5, add: OK" in said
    assert "segment x, add: rejected" in said
    assert "email_address: 1 line: 1001" in said
    assert "example.com" not in said


def test_load_draws_a_bar_on_a_terminal_and_none_into_a_file(host: Host) -> None:
    arguments = host.deliver(text_of(email_hashes(1000)), 1000)
    ours, theirs = pty.openpty()

    with host.start(*arguments, stderr=theirs) as load:
        os.close(theirs)
        drawn = b"".join(iter(lambda: _read_terminal(ours), b"")).decode()
    os.close(ours)

    assert load.returncode == 0
    assert "1,000 of 1,000 rows written" in drawn
    assert "\x1b" in drawn
    assert "\x1b" not in host.run(*arguments)


def _read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # how a terminal says that nobody writes to it any more
        return b""


def test_status_says_it_again_for_people_and_for_partners(host: Host) -> None:
    host.run(*host.deliver(text_of(email_hashes(10)), 10))
    job = host.job()

    listed = host.run("status")
    report = host.run("status", str(job["id"]))
    status = json.loads(host.run("status", job["transaction_id"], "--json"))

    assert listed.split("\t")[:3] == [str(job["id"]), job["transaction_id"], "done"]
    assert "10 added" in report
    assert status["transaction_id"] == job["transaction_id"]
    assert status["segments"] == [{"id": "123", "action": "add", "code": "OK", "records": 10}]
    assert "there is no job 99" in host.run("status", "99", status=1)


@pytest.mark.parametrize(
    ("content", "fields", "expected"),
    [
        pytest.param(b"x\n" * 3, {}, "error 8: File has no valid records", id="no hash in it"),
        pytest.param(
            text_of(email_hashes(3)),
            {"file": metadata_of(b"another file", records=3)["file"]},
            "error 7: File checksum validation failed",
            id="another file",
        ),
        pytest.param(
            text_of(email_hashes(3)),
            {"partner_id": "nobody"},
            "error 2: Partner id invalid or missing",
            id="unknown partner",
        ),
        pytest.param(
            text_of(email_hashes(3)),
            {"segments": []},
            "error 1: Request no well formed",
            id="metadata of no segment",
        ),
    ],
)
def test_file_that_was_not_loaded_is_told_by_code_and_exit_status(
    host: Host, content: bytes, fields: dict[str, Any], expected: str
) -> None:
    arguments = host.deliver(content, 3)
    metadata = json.loads((host.folder / "file.json").read_bytes())
    (host.folder / "file.json").write_text(json.dumps({**metadata, **fields}))

    assert expected in host.run(*arguments, status=1)


@pytest.mark.parametrize("arguments", [("load", "no-such-file", "--metadata", "x"), ("load",)])
def test_wrong_arguments_are_told_at_once(host: Host, arguments: tuple[str, ...]) -> None:
    assert "Usage:" in host.run(*arguments, status=2)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(lambda job: job.get("state") == "running", id="while it reads"),
        pytest.param(checkpoint_of, id="after its first batch"),
    ],
)
def test_killed_load_called_again_ends_like_one_clean_run(
    host: Host,
    clean: dict[bytes, list[tuple[Any, Any]]],
    moment: Callable[[dict[str, Any]], object],
) -> None:
    """
    SIGKILL of the command, and with it of the store that it had started.
    """
    arguments = host.deliver(many_hashes(), ROWS, segments=TWO_SEGMENTS)

    with host.start(*arguments) as load:
        host.until(moment)
        load.kill()
    killed = host.job()
    assert killed["state"] == "running"
    said = host.run(*arguments)

    assert host.job()["id"] == killed["id"]
    assert f"{ROWS:,}, of them 0 duplicates" in said
    assert host.everything() == clean
    assert sum(map(len, clean.values())) == ROWS


def test_load_told_to_stop_stops_at_a_checkpoint_and_goes_on_when_called_again(host: Host) -> None:
    arguments = host.deliver(many_hashes(), ROWS)

    load = host.start(*arguments)
    host.until(lambda job: job.get("state") == "running")
    load.send_signal(signal.SIGTERM)
    _, err = load.communicate(timeout=WITHIN_S)
    assert load.returncode == 1, err
    assert host.job()["state"] == "queued"
    assert "Traceback" not in err

    host.run(*arguments)
    assert host.job()["state"] == "done"


def test_file_loaded_while_the_store_is_away_waits_for_the_loader(host: Host) -> None:
    arguments = host.deliver(text_of(email_hashes(1000)), 1000)
    said = host.run(*arguments, status=1, SEGMENTS_REDIS_URL="unix:///nowhere/valkey.sock")
    assert "job 1 waits for the loader" in said
    assert host.job()["state"] == "queued"

    loader = host.start("loader")
    host.until(lambda job: job["state"] == "done")
    loader.send_signal(signal.SIGTERM)
    _, err = loader.communicate(timeout=WITHIN_S)

    assert loader.returncode == 0, err
    assert "1000 of 1000 rows written" in err


def test_two_loads_at_once_share_the_store_and_both_end(host: Host) -> None:
    first = host.deliver(text_of(email_hashes(5000)), 5000)
    loads = [host.start(*first)]
    (host.folder / "other.json").write_bytes(
        as_json(
            metadata_of((host.folder / "file").read_bytes(), records=5000, segments=[("9", "add")])
        )
    )
    loads.append(host.start("load", "file", "--metadata", "other.json"))

    said = [load.communicate(timeout=WITHIN_S) for load in loads]

    assert [load.returncode for load in loads] == [0, 0], said
    assert all("5,000 added" in out for out, _ in said)
