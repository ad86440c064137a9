"""
The load test against the service as it is run: seeded by its own doors, asked over HTTP.
"""

import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from loadtest.bench.checks import check_ours, check_peer, check_refusals, until_enriched
from loadtest.bench.peers.build import NAMES, Deadline, Skipped, peers
from loadtest.driver import Exchange, ask
from loadtest.population import SEES_ALL, Population
from loadtest.ports import free_ports
from loadtest.servers import HOST, Server, Servers
from loadtest.traffic import BidRequest, Traffic, plain_body
from rtb.outcome import Reason
from segments.model.identity import id_of_email_hash
from segments.model.record import Membership, Record, pack
from segments.runtime.store_url import store_url
from segments.store.keys import bucket_key, bucket_of, field_of
from segments.store.reader import read_meta
from segments.store.servers.connection import connect

IDS = 2_000
HEADLESS = ("--headless", "-u", "4", "-r", "4", "-t", "3s", "--only-summary")
COUNT = 600

pytestmark = [pytest.mark.xdist_group("loadtest-service"), pytest.mark.timeout(240)]


class Service(NamedTuple):
    port: int
    data_dir: Path
    seeded: str

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def server(self) -> Server:
        return Server("rtb-segments", self.port, os.getpid())


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    # Not pytest's own directory: the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="rtb-load-") as directory:
        port, admin_port = free_ports(2)
        env = os.environ | {
            "SEGMENTS_DATA_DIR": directory,
            "SEGMENTS_REDIS_URL": "",
            "SEGMENTS_EXPECTED_IDS": str(IDS),
            "RTB_HOST": HOST,
            "RTB_PORT": str(port),
            "RTB_OPT_OUTS_MAX_AGE_S": "0",  # no loader runs beside it
            "RTB_ADMIN_PORT": str(admin_port),
            "RTB_STOP_ACCEPTING_AFTER_S": "0",
            "SEGMENTS_API_PORT": "0",
            "SEGMENTS_UP_CONSOLE": "no",
            "SEGMENTS_SFTP_PORT": "0",
            # A busy machine's hiccup is no wrong answer, and not what is tested here.
            "RTB_DEADLINE_CAP_MS": "1000",
            "RTB_TMAX_SHARE": "1",
        }
        up = subprocess.Popen([sys.executable, "-m", "segments", "up"], env=env)
        try:
            until_ready(f"http://{HOST}:{admin_port}/health/ready?strict", up)
            seeded = subprocess.run(
                [sys.executable, "-m", "loadtest", "seed", "--ids", str(IDS)],
                env=env,
                check=True,
                capture_output=True,
                text=True,
            )
            yield Service(port, Path(directory), seeded.stdout)
        finally:
            up.terminate()
            up.wait(30)


def loadtest(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtest", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )


def until_ready(url: str, up: subprocess.Popen[bytes]) -> None:
    give_up_at_s = time.monotonic() + 60
    while time.monotonic() < give_up_at_s:
        assert up.poll() is None, "the service ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError("the service is not ready")


def test_seed_says_what_it_wrote_and_by_which_door(service: Service) -> None:
    assert "files" in service.seeded
    assert "which no file carries" in service.seeded
    assert service.seeded.splitlines()[-1].startswith("2,000 ids in 5 segments each")


@pytest.fixture(scope="module")
def due(service: Service) -> tuple[list[BidRequest], list[Exchange]]:
    """Generated requests, and the right answers that the service gave."""
    traffic = Traffic(Population(IDS), seed=5)
    requests = [traffic.request(index) for index in range(COUNT)]
    ours = asyncio.run(check_ours(service.server, requests, traffic.population))
    expired = asyncio.run(a_person_whose_memberships_are_over(service))
    ours += asyncio.run(ask(HOST, service.port, [expired]))
    assert ours[-1].answer.outcome == "no_match"
    return [*requests, expired], ours


async def a_person_whose_memberships_are_over(service: Service) -> BidRequest:
    """Write somebody whom no population has: its memberships do not expire."""
    digest = hashlib.sha256(b"over@example.com").hexdigest()
    id_ = id_of_email_hash(digest)
    over = pack(Record((), tuple(Membership(audience_id, 1) for audience_id in range(1, 9))))
    async with connect(store_url(None, service.data_dir)) as redis:
        bucket = bucket_of(id_, (await read_meta(redis)).bucket_bits)
        await redis.execute_command("HSET", bucket_key(bucket), field_of(id_), over)  # type: ignore[no-untyped-call] # redis-py
    body = plain_body(Random(1), COUNT, [digest], 2_800)
    return BidRequest(COUNT, SEES_ALL, body, (), Reason.NONE, is_stripped=False)


@pytest.mark.parametrize("name", NAMES)
def test_peer_answers_as_the_service_does(
    service: Service, due: tuple[list[BidRequest], list[Exchange]], tmp_path: Path, name: str
) -> None:
    requests, ours = due
    hit = next(r for r, our in zip(requests, ours, strict=True) if our.answer.outcome == "enriched")
    built = peers(tmp_path, store_url(None, service.data_dir), Deadline(1_000, 1), names=[name])
    peer = built[0]
    if isinstance(peer, Skipped):
        pytest.skip(peer.why)

    async def check() -> list[Exchange]:
        async with Servers(cpu=None) as servers:
            server = await peer.start(servers)
            await until_enriched(server, hit)
            await check_refusals(server, hit)
            return await check_peer(server, requests, ours, peer.survives)

    assert len(asyncio.run(check())) > COUNT * 0.8


@pytest.mark.parametrize(
    ("ids", "exit_status"),
    [
        pytest.param(IDS, 0, id="nothing wrong"),
        # More persons due than were seeded: an answer without their segments is wrong.
        pytest.param(IDS * 10, 1, id="wrong answers are failures"),
    ],
)
def test_run_checks_every_answer(
    service: Service, ids: int, exit_status: int, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"

    run = loadtest("run", *HEADLESS, "--host", service.url, "--ids", str(ids), "--html", report)

    said = run.stdout + run.stderr
    assert run.returncode == exit_status, said[-2_000:]
    assert "enriched" in said
    assert ("outcome 'no_match', not 'enriched'" in said) == (exit_status == 1)
    assert "<html" in report.read_text()


def test_wrong_answers_of_another_process_fail_the_distributed_run(service: Service) -> None:
    (port,) = free_ports(1)
    arguments = ["--host", service.url, "--ids", str(IDS * 10)]
    at = ["--master-host", HOST, "--master-port", str(port)]
    command = [sys.executable, "-m", "loadtest", "run", "--worker", *at, *arguments]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as worker:
        master = loadtest(
            *("run", "--master", "--expect-workers", "1", *HEADLESS),
            *("--master-bind-host", HOST, "--master-bind-port", str(port), *arguments),
        )

    assert master.returncode == 1, (master.stdout + master.stderr)[-2_000:]
    assert "outcome 'no_match', not 'enriched'" in master.stdout + master.stderr
    assert worker.returncode is not None


@pytest.mark.parametrize(
    ("options", "exit_status", "what", "verdict"),
    [
        pytest.param([], 0, "wrong answers", "held", id="all held"),
        pytest.param(["--ids", str(IDS * 10)], 1, "wrong answers", "MISSED", id="wrong answers"),
    ],
)
def test_accept_says_by_its_exit_status_whether_all_held(
    service: Service, options: list[str], exit_status: int, what: str, verdict: str
) -> None:
    generous = ["--mean-ms", "5000", "--p95-ms", "9000", "--budget-ms", "9000"]
    load = ["--rate", "200", "--seconds", "1", "--ids", str(IDS)]

    accept = loadtest("accept", "--url", service.url, *load, *generous, *options)

    [row] = [line for line in accept.stdout.splitlines() if line.strip().startswith(what)]
    assert accept.returncode == exit_status, accept.stdout + accept.stderr
    assert row.endswith(verdict)


def test_accept_says_in_a_line_that_nobody_is_there() -> None:
    (port,) = free_ports(1)

    accept = loadtest("accept", "--url", f"http://{HOST}:{port}", "--ids", str(IDS))

    assert accept.returncode == 1
    assert accept.stderr.splitlines()[-1] == "Error: no connection: ConnectionRefusedError"
