"""A bucket whose server is killed, stalls and comes back, met by the commands that read it."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import pytest

from loadtest.ports import free_ports
from tests.engines import Engine, start_server
from tests.segments.cli.conftest import Command
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    metadata_of,
    text_of,
)

BUCKET = "deliveries"
HASHES = email_hashes(40)
WITHIN_S = 60
AWAY = (
    "Error: the storage does not answer, or refuses; see that SEGMENTS_BLOB_URL is right, its"
    " server runs, and lets the service read and write; then run this again"
)


class S3Process:
    """moto's server, which forgets its buckets when it is killed."""

    def __init__(self) -> None:
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = start_server(argv)
        until_s = time.monotonic() + WITHIN_S
        while True:
            try:
                with closing(socket.create_connection(("127.0.0.1", self.port))):
                    break
            except OSError:
                assert time.monotonic() < until_s, "moto does not start"
                time.sleep(0.05)
        boto3.client("s3").create_bucket(Bucket=BUCKET)

    def send(self, signal_number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signal_number)
        if signal_number is signal.SIGKILL:
            self._process.wait(WITHIN_S)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Process]:
    server = S3Process()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ALLOW_HTTP": "true",
        "SEGMENTS_BLOB_URL": f"s3://{BUCKET}/segments",
    }.items():
        monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.send(signal.SIGKILL)


@pytest.fixture
def partner(ok: Command, store: Engine) -> None:
    """Somebody who delivers, and a store to deliver to; behind `ok`, which knows of none."""
    del store
    ok("account", "add", "--kind", "advertiser", "--id", PARTNER_ID, "--name", "Partner")


def delivered(folder: Path, hashes: list[str]) -> tuple[str, ...]:
    content = text_of(hashes)
    (folder / "file").write_bytes(content)
    (folder / "file.json").write_bytes(as_json(metadata_of(content, records=len(hashes))))
    return ("load", "file", "--metadata", "file.json")


@pytest.mark.usefixtures("partner")
def test_commands_say_in_one_line_that_the_bucket_is_away_and_go_on_when_it_is_back(
    bucket: S3Process, run: Command, ok: Command, tmp_path: Path
) -> None:
    ok(*delivered(tmp_path, HASHES[:30]))
    ok("erase", f"email:{HASHES[0]}")

    bucket.send(signal.SIGKILL)
    said = {
        command[0]: run(*command)
        for command in (delivered(tmp_path, HASHES), ("scrub",), ("rebuild", "--yes"))
    }
    examined = run("doctor").output
    still_bids = "store: answers" in examined
    bucket.start()

    for name, result in said.items():
        assert result.exit_code == 1, name
        assert result.output.splitlines()[-1] == AWAY, name
    assert still_bids, "a rebuild that can't read the files leaves the store as it is"
    assert "FAIL  files: their storage can't be read" in examined
    assert "done" in ok(*delivered(tmp_path, HASHES)).output


@pytest.mark.long
@pytest.mark.usefixtures("partner")
def test_bucket_that_hangs_is_given_up_and_the_job_waits_for_it(
    bucket: S3Process, run: Command, ok: Command, tmp_path: Path
) -> None:
    bucket.send(signal.SIGSTOP)
    began_s = time.monotonic()
    hung = run(*delivered(tmp_path, HASHES))
    took_s = time.monotonic() - began_s
    bucket.send(signal.SIGCONT)

    assert hung.exit_code == 1
    assert hung.output.splitlines()[-1] == AWAY
    assert took_s < 60
    assert "done" in ok(*delivered(tmp_path, HASHES)).output
