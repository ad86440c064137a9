"""The REST doors as a process, met by `curl` and by schemathesis."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtest.ports import free_ports
from segments.ledger.database.engine import open_ledger
from segments.projection.catalog import catch_up
from segments.settings import Settings
from segments.store.servers.connection import connect
from tests.commands import run_command
from tests.engines import Engine
from tests.kept_files import kept_files
from tests.tls import TestCa

USER, PASSWORD = "bob@shop.example", "correct horse battery"
_WITHIN_S = 60
_MAX_GROWTH_KB = 60 << 10


@dataclass
class Api:
    """A running `rtb-segments api`, and its command line."""

    folder: Path
    url: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    tls: ssl.SSLContext | None = None

    def command(self, *arguments: str, stdin: str = "") -> str:
        done = run_command(*arguments, env=self.environment, cwd=self.folder, stdin=stdin.encode())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def curl(self, *arguments: str, within_s: float = _WITHIN_S) -> tuple[int, str]:
        """Return the status and the body that `curl` saw."""
        done = subprocess.run(
            ["curl", "-sS", "-w", "\n%{http_code}", *arguments],
            cwd=self.folder, env=self.environment, text=True, capture_output=True, check=False,
            timeout=within_s,
        )  # fmt: skip
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def start(self) -> None:
        with (self.folder / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "segments", "api"], env=self.environment, stderr=log
            )
        deadline_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, self.log
            try:
                with urllib.request.urlopen(f"{self.url}/health/ready", context=self.tls) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("not ready in time")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(_WITHIN_S)

    @property
    def log(self) -> str:
        return (self.folder / "api.log").read_text()

    def login(self) -> list[str]:
        """Log in as the document does; return what to give `curl` from then on."""
        status, body = self.curl(
            "-X", "POST", f"{self.url}/login", "--header", "Content-Type: application/json",
            "-d", json.dumps({"username": USER, "password": PASSWORD}),
        )  # fmt: skip
        assert status == 200, body
        return ["--header", f"Authorization: bearer {json.loads(body)['token']}"]

    def presign(self, bearer: list[str], action: str = "add") -> tuple[str, str]:
        said = {"filename": "add.sha2.txt", "action": action, "type": "sha2"}
        status, body = self.curl(
            "-X", "POST", *bearer, "--header", "Content-Type: application/json",
            "--header", "Accept: application/json", "-d", json.dumps(said),
            f"{self.url}/audience/upload/160019",
        )  # fmt: skip
        assert status == 200, body
        answer = json.loads(body)
        return answer["requestId"], answer["output"]["presignedURI"]

    def job_lines(self) -> list[str]:
        return self.command("status").splitlines()

    def peak_memory_kb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1])


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, valkey_server: Engine) -> Path:
    """The data of a shop that has a user and an audience; made once, by the command line."""
    valkey_server.reset()  # it may know the ledger of another test
    api = _api(tmp_path_factory.mktemp("shop"), valkey_server)
    asyncio.run(_make_ledger(api.folder / "data"))
    api.command("account", "add", "--kind", "advertiser", "--id", "shop", "--name", "Shop")
    api.command("user", "add", USER, "--partner", "shop", "--password-stdin", stdin=PASSWORD)
    _add_audience(api.environment)
    return api.folder / "data"


@pytest.fixture
def api(tmp_path: Path, valkey: Engine, shop: Path) -> Iterator[Api]:
    yield from _serving(_api(tmp_path, valkey), shop)


@pytest.fixture
def tls_api(tmp_path: Path, valkey: Engine, shop: Path) -> Iterator[Api]:
    ca = TestCa.in_folder(tmp_path / "tls")
    api = _api(tmp_path, valkey)
    api.url, api.tls = api.url.replace("http:", "https:"), ca.client()
    api.environment |= {
        "SEGMENTS_API_TLS_CERT": str(ca.cert),
        "SEGMENTS_API_TLS_KEY": str(ca.key),
        "CURL_CA_BUNDLE": str(ca.bundle),
    }
    yield from _serving(api, shop)


def _api(folder: Path, valkey: Engine) -> Api:
    (port,) = free_ports(1)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("SEGMENTS_")},
        "SEGMENTS_DATA_DIR": str(folder / "data"),
        "SEGMENTS_REDIS_URL": valkey.url,
        "SEGMENTS_API_PORT": str(port),
        "SEGMENTS_API_HOST": "127.0.0.1",
        "SEGMENTS_EXPECTED_IDS": "10000",
    }
    return Api(folder, f"http://127.0.0.1:{port}", environment, None)  # type: ignore[arg-type]


def _serving(api: Api, data: Path) -> Iterator[Api]:
    shutil.copytree(data, api.folder / "data")
    api.start()
    yield api
    if api.process.poll() is None:
        api.stop(signal.SIGKILL)


async def _make_ledger(data_dir: Path) -> None:
    async with open_ledger(Settings(data_dir=data_dir).ledger_dsn):
        pass


def _add_audience(environment: dict[str, str]) -> None:
    """Give the shop the document's audience, which another door made."""
    code = """
import asyncio, time
from segments.ledger import accounts, audiences
from segments.ledger.database.engine import open_ledger
from segments.projection.catalog import catch_up
from segments.settings import Settings
from segments.store.servers.connection import connect
async def main():
    async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
        shop = await accounts.partner(conn, "shop")
        await audiences.find_or_create_audience(conn, shop, shop, "160019", "X", now_s=time.time())
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def a_file(folder: Path, count: int) -> Path:
    path = folder / "add.sha2.txt"
    path.write_text("".join(f"{hashlib.sha256(b'%d' % n).hexdigest()}\n" for n in range(count)))
    return path


def test_curl_delivers_a_file_as_the_document_says(api: Api) -> None:
    path = a_file(api.folder, 3)
    bearer = api.login()
    request_id, url = api.presign(bearer)

    put = api.curl("-i", "-X", "PUT", "-T", path.name, url)
    again = api.curl("-X", "PUT", "-T", path.name, url)
    other = api.curl("-X", "PUT", "-T", a_file(api.folder, 4).name, url)
    status, body = api.curl(*bearer, f"{api.url}/audience/upload/{request_id}")

    assert (put[0], again[0], other[0], status) == (200, 200, 409, 200)
    assert json.loads(body)["output"]["status"] == "queued"
    assert len(api.job_lines()) == 1
    assert api.stop() == 0


def test_file_is_delivered_over_tls_and_upload_urls_say_so(tls_api: Api) -> None:
    path = a_file(tls_api.folder, 3)
    bearer = tls_api.login()
    _, url = tls_api.presign(bearer)

    put, _ = tls_api.curl("-X", "PUT", "-T", path.name, url)

    assert url.startswith(f"{tls_api.url}/")
    with urllib.request.urlopen(f"{tls_api.url}/health/live", context=tls_api.tls) as answer:
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert put == 200
    assert len(tls_api.job_lines()) == 1
    assert tls_api.stop() == 0


def test_upload_streams_to_the_disk_and_not_into_memory(api: Api) -> None:
    """
    Larger than the growth that is allowed, announced with Expect.
    """
    path = api.folder / "large.txt"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    _, url = api.presign(api.login())
    before_kb = api.peak_memory_kb()

    status, said = api.curl("-v", "--stderr", "-", "-H", "Expect: 100-continue", "-T", path.name,
                            url)  # fmt: skip

    assert status == 200
    assert "100 Continue" in said
    assert api.peak_memory_kb() - before_kb < _MAX_GROWTH_KB


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_five_gibibytes_are_taken_and_not_one_byte_more(
    api: Api, record_property: Callable[[str, object], None]
) -> None:
    """
    The largest file there may be, of nothing, so that it takes no space here.
    """
    largest, larger = api.folder / "largest.txt", api.folder / "larger.txt"
    for path, size_bytes in ((largest, 5 << 30), (larger, (5 << 30) + 1)):
        with path.open("wb") as file:
            file.truncate(size_bytes)
    bearer = api.login()
    _, url = api.presign(bearer)
    before_kb = api.peak_memory_kb()
    began_s = time.monotonic()

    too_large = api.curl("-v", "--stderr", "-", "-T", larger.name, url)
    taken = api.curl("-v", "--stderr", "-", "-H", "Expect: 100-continue", "-T", largest.name, url,
                     within_s=2000)  # fmt: skip

    took_s = time.monotonic() - began_s
    grown_kb = api.peak_memory_kb() - before_kb
    record_property("seconds", took_s)
    record_property("peak_kb", api.peak_memory_kb())
    assert too_large[0] == 413
    assert "100 Continue" not in too_large[1]
    assert taken[0] == 200
    assert "100 Continue" in taken[1]
    assert grown_kb < _MAX_GROWTH_KB
    (blob,) = kept_files(api.folder / "data" / "blobs")
    size_bytes = blob.stat().st_size
    blob.unlink()
    assert size_bytes == 5 << 30


def test_refused_upload_is_not_even_sent(api: Api) -> None:
    """
    `curl` waits for 100 Continue, and a URL that was changed gets none.
    """
    path = api.folder / "large.txt"
    with path.open("wb") as file:
        file.truncate(5 << 30)
    bearer = api.login()
    _, url = api.presign(bearer)

    changed = api.curl("-v", "--stderr", "-", "-H", "Expect: 100-continue", "-T", path.name,
                       f"{url}0")  # fmt: skip

    assert changed[0] == 403
    assert "100 Continue" not in changed[1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stop_amid_an_upload_leaves_no_job_and_the_url_good(
    api: Api, number: signal.Signals
) -> None:
    a_file(api.folder, 600_000)
    _, url = api.presign(api.login())
    slow = ["curl", "-sS", "--limit-rate", "4M", "-T", "add.sha2.txt", url]
    upload = subprocess.Popen(slow, cwd=api.folder, stderr=subprocess.DEVNULL)
    _wait_for_bytes(api)

    if number is signal.SIGTERM:
        upload.kill()
        upload.wait()
    api.stop(number)
    upload.wait()
    after_stop = api.job_lines()
    api.start()
    status, _ = api.curl("-T", "add.sha2.txt", url)

    assert after_stop == []
    assert status == 200
    assert len(api.job_lines()) == 1


def test_nothing_of_whoever_asks_is_logged(api: Api) -> None:
    a_file(api.folder, 3)
    bearer = api.login()
    _, url = api.presign(bearer)
    api.curl("-T", "add.sha2.txt", url)
    api.curl("-T", "add.sha2.txt", f"{url}0")
    person = hashlib.sha256(b"someone@example.com").hexdigest()
    token = api.command("token", "create", "--internal").strip()
    said = {"action": "ACCESS", "emailHashes": [person], "liveIntentFpcs": ["a-cookie"]}
    for bearer in ([], ["-H", f"Authorization: Bearer {token}"]):
        for action in ("ERASURE", "ACCESS", "no action"):
            body = json.dumps({**said, "action": action})
            api.curl(*bearer, "-d", body, "-H", "Content-Type: application/json",
                     f"{api.url}/data-subject-requests")  # fmt: skip
    api.curl(f"{api.url}/submit?dsr=head.{person}.signature")
    api.stop()

    assert person[:16] not in api.log
    assert "a-cookie" not in api.log
    assert token not in api.log
    assert "127.0.0.1" not in api.log
    assert USER not in api.log
    assert "Signature" not in api.log


@pytest.mark.timeout(600)  # forty requests for each of all operations
def test_schemathesis_finds_no_server_error(api: Api, valkey: Engine) -> None:
    from schemathesis import openapi
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    asyncio.run(_lay_out_store(api, valkey))  # without one, 503 is the answer to an opt-out
    login = api.login()[1].partition(": ")[2]
    token = f"Bearer {api.command('token', 'create', '--internal').strip()}"
    bearers = {"userToken": login, "privacyToken": token}
    org = org_headers(api)
    schema: Any = openapi.from_url(f"{api.url}/openapi.json")
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    operations = [result.ok() for result in schema.get_all_operations()]

    for operation in operations:
        schemes = operation.definition.raw.get("security", [])
        bearer = next((bearers[name] for each in schemes for name in each if name in bearers), "")
        headers = {"Authorization": bearer} if bearer else {}
        if operation.path.startswith("/core/ais"):
            headers = org
        _ask_whatever_it_allows(operation, headers, checks)

    assert len(operations) == 50
    assert "Error" not in api.log


async def _lay_out_store(api: Api, store: Engine) -> None:
    settings = Settings(data_dir=api.folder / "data", redis_url=store.url)
    async with open_ledger(settings.ledger_dsn) as ledger, connect(store.url) as redis:
        await catch_up(ledger, redis, settings.expected_ids)


def org_headers(api: Api) -> dict[str, str]:
    """Make an org with a base connection; return what its client sends."""
    made = api.command("org", "add", "ORG", "--partner", "shop")
    folder = api.folder / "customer"
    (folder / "in").mkdir(parents=True)
    api.command("connection", "add", "c", "--org", "ORG", "--url", folder.as_uri())
    key, token = (line.split("\t")[1] for line in made.splitlines())
    return {
        "Authorization": f"Bearer {token}",
        "x-api-key": key,
        "x-gw-ims-org-id": "ORG",
        "x-sandbox-name": "prod",
    }


def _ask_whatever_it_allows(operation: Any, headers: dict[str, str], checks: Any) -> None:
    from hypothesis import HealthCheck, given, settings

    def ask(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=checks)

    settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )(given(case=operation.as_strategy())(ask))()


def _wait_for_bytes(api: Api) -> None:
    blobs = api.folder / "data" / "blobs"
    deadline_s = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline_s:
        if kept_files(blobs):
            return
        time.sleep(0.02)
    raise AssertionError("nothing came")
