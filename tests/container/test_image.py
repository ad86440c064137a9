"""
The image, built from the Dockerfile and run as a host runs it: read-only, without capabilities,
by a user that it does not know.

As root, a quarter of an hour: `make container-test`.
"""

import hashlib
import json
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.container import table
from tests.container.engine import ROOT, Container, Engine
from tests.memory import proportional_bytes
from tests.segments.ingest.deliveries import as_json, metadata_of, text_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

_KEPT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rtb-segments-container"
_MB = 1_000_000
_FULL_MB, _SLIM_MB = 250, 120  # over the base
_WITHIN_S = 60
_STRANGER = "12345:0"  # as OpenShift gives each project a user, in group 0
_LIST = "/opt/rtb-segments/share/rtb-segments/sbom.cdx.json"
_LOAD_ALL = Path(__file__).with_name("load_all.py").read_text()
_NO_STORE = {"SEGMENTS_REDIS_URL": "redis://127.0.0.1:1"}
_PERSON = hashlib.sha256(b"alice@example.com").hexdigest()


@pytest.fixture(scope="module")
def engine() -> Engine:
    _KEPT.mkdir(parents=True, exist_ok=True)
    return Engine(_KEPT)


@pytest.fixture(scope="module")
def base(engine: Engine) -> str:
    return engine.make_base()


@pytest.fixture(scope="module")
def image(engine: Engine, base: str) -> str:
    return engine.build(base, "rtb-segments:test")


@pytest.fixture(scope="module")
def slim(engine: Engine, base: str, image: str) -> str:
    return engine.build(base, "rtb-segments:test-slim", "--target", "slim")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A volume as an engine makes it from the image's /data."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 10001, 0)
    folder.chmod(0o770)
    return folder


@pytest.fixture
def running(engine: Engine, image: str, data: Path, tmp_path: Path) -> Iterator[Container]:
    """The image with nothing said to it but where things lie."""
    delivered = _delivery(tmp_path)
    container = engine.start(image, data, user=_STRANGER, environment={}, files=delivered)
    try:
        yield container
    finally:
        container.kill()


def test_images_are_no_larger_than_said(engine: Engine, base: str, image: str, slim: str) -> None:
    of_base = engine.inspect(base)["Size"]
    sizes = {name: (engine.inspect(name)["Size"] - of_base) / _MB for name in (image, slim)}
    print(sizes)  # noqa: T201 - for the page

    assert sizes[image] <= _FULL_MB, sizes
    assert sizes[slim] <= _SLIM_MB, sizes


def test_image_says_what_it_is(engine: Engine, image: str) -> None:
    config = engine.inspect(image)["Config"]

    assert config["User"] == "10001:0"
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert json.loads(config["Labels"]["agent-manifest"])["name"] == "rtb-segments"
    assert config["Labels"]["org.opencontainers.image.title"] == "rtb-segments"
    assert config["Labels"]["org.opencontainers.image.version"] == version("rtb-segments")


def test_stranger_answers_bids_and_drains(running: Container) -> None:
    _until(lambda: _status(running, "http://127.0.0.1:8081/health/ready?strict") == 200, running)

    for command in (
        ("account", "add", "--kind", "advertiser", "--id", "acme", "--name", "acme.example"),
        ("recipient", "add", "dsp-b", "--partner", "acme"),
        ("load", "/delivered/people.txt", "--metadata", "/delivered/people.txt.json"),
        ("doctor",),
    ):
        done = running.run("/opt/rtb-segments/bin/rtb-segments", *command)
        assert done.status == 0, done.said

    _until(lambda: _enriched(running) == [{"id": "123"}], running)
    assert running.stop(within_s=20) == 0
    said = running.log.read_text()
    assert "Traceback" not in said, said


def test_image_lists_its_packages_and_has_no_tools(running: Container) -> None:
    _until(lambda: bool(running.pids()), running)
    listed = json.loads(
        running.run("cat", "/opt/rtb-segments/share/rtb-segments/sbom.cdx.json").said
    )
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements-run.lock").read_text(), re.MULTILINE)

    assert {each["name"] for each in listed["components"]} == set(locked)
    for tool in ("gcc", "cc", "pip", "pip3"):
        assert running.run("sh", "-c", f"command -v {tool}").status != 0, tool
    for module in ("pip", "setuptools", "ensurepip._bundled"):
        assert running.run("python", "-c", f"import {module}").status != 0, module
    assert running.run("sh", "-c", "echo > /opt/x").status != 0  # read-only


def test_all_of_ours_is_there(running: Container) -> None:
    _until(lambda: bool(running.pids()), running)

    done = running.run("python", "-c", _LOAD_ALL, "/data", "/delivered/table.parquet")

    assert done.status == 0, done.said
    said = json.loads(done.said)
    assert (said["lacking"], said["rows"]) == ([], table.ROWS)


def test_all_of_ours_is_in_slim(engine: Engine, slim: str, data: Path) -> None:
    container = engine.start(slim, data, "serve", user=_STRANGER, environment=_NO_STORE)
    try:
        _until(lambda: bool(container.pids()), container)
        done = container.run("python", "-c", _LOAD_ALL, "/data")
    finally:
        container.kill()

    assert done.status == 0, done.said
    assert json.loads(done.said)["lacking"] == ["opentelemetry"]  # the extra `otel`


def test_slim_says_what_it_lacks(engine: Engine, slim: str, data: Path) -> None:
    container = engine.start(slim, data, "up", user=_STRANGER, environment={})
    try:
        _until(lambda: not container.is_running(), container)
    finally:
        container.kill()

    said = container.log.read_text()
    assert "rtb-segments[embedded]" in said
    assert "Traceback" not in said


def test_listener_fits_the_resources_of_the_manifest(
    engine: Engine, image: str, data: Path, tmp_path: Path
) -> None:
    manifest = json.loads(engine.inspect(image)["Config"]["Labels"]["agent-manifest"])
    allowed_mib = int(manifest["resources"]["memory"].removesuffix("Mi"))
    container = engine.start(
        image,
        data,
        "serve",
        user=_STRANGER,
        environment=_NO_STORE,
    )
    try:
        _until(lambda: _status(container, "http://127.0.0.1:8081/health/live") == 200, container)
        used_mib = sum(map(proportional_bytes, container.pids())) / (1 << 20)
    finally:
        container.kill()

    print(used_mib)  # noqa: T201 - for the page
    assert used_mib <= allowed_mib


def _delivery(folder: Path) -> list[Path]:
    content = text_of([_PERSON])
    people = folder / "people.txt"
    people.write_bytes(content)
    described = metadata_of(content, records=1, partner_id="acme")
    described["file"]["name"] = people.name
    metadata = folder / "people.txt.json"
    metadata.write_bytes(as_json(described))
    return [people, metadata, table.write(folder / "table.parquet")]


def _enriched(container: Container) -> object:
    user = {"eids": [{"source": "liveintent.com", "uids": [{"id": _PERSON}]}]}
    asked = {"id": "1", "imp": [{"id": "1"}], "user": user}
    request = urllib.request.Request(
        "http://127.0.0.1:8080/openrtb2/enrich/dsp-b",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    status, body = container.ask(request)
    assert status == 200
    data = json.loads(body)["user"].get("data")
    return data and data[0]["segment"]


def _status(container: Container, url: str) -> int:
    try:
        status, _ = container.ask(urllib.request.Request(url))
    except OSError:
        return 0
    return status


def _until(claim: Callable[[], bool], container: Container) -> None:
    give_up_at_s = time.monotonic() + _WITHIN_S
    while not claim():
        assert time.monotonic() < give_up_at_s, container.log.read_text()[-4000:]
        time.sleep(0.1)
