"""`compose.yaml`, as far as it can be read and tried without an engine of containers."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from tests.container.engine import ROOT
from tests.engines import binary_of, free_port, start_server
from tests.segments.loader.test_loader import until

_GIVEN = {"STORE_PASSWORD": "sesame", "BIDS_PASSWORD": "open", "LEDGER_PASSWORD": "please"}
_OURS = {"loader", "sftp", "api", "serve", "admin"}


def _read(name: str) -> Any:
    """Read a file as compose does: variables first."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return yaml.safe_load(re.sub(r"\$\{(\w+)(?::\?[^}]*)?\}", lambda it: _GIVEN[it[1]], text))


@pytest.fixture(scope="module")
def services() -> Any:
    return _read("compose.yaml")["services"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The store, started by the command of the file."""
    folder: Path = tmp_path_factory.mktemp("store")
    port = free_port()
    _, *options = shlex.split(_read("compose.yaml")["services"]["store"]["command"])
    server = start_server(
        [binary_of("valkey"), *options, "--port", port, "--bind", "127.0.0.1", "--dir", str(folder)]
    )
    yield port
    server.terminate()
    server.wait()


async def test_listener_reads_with_least_rights_and_nobody_without_a_password(port: str) -> None:
    writer = Redis.from_url(f"redis://:sesame@127.0.0.1:{port}")
    await until(lambda: _answers(writer))
    bids = Redis.from_url(f"redis://bids:open@127.0.0.1:{port}")

    writer.hset("seg:1:x", "field", "value")
    assert bids.hget("seg:1:x", "field") == b"value"
    with pytest.raises(NoPermissionError):
        bids.hset("seg:1:x", "field", "other")
    with pytest.raises(NoPermissionError):
        bids.hget("others", "field")
    with pytest.raises(AuthenticationError):
        Redis.from_url(f"redis://127.0.0.1:{port}").ping()
    assert writer.config_get("appendonly") == {"appendonly": "yes"}
    assert writer.config_get("save") == {"save": ""}


def test_image_is_built_once_and_each_container_is_hardened(services: Any) -> None:
    assert set(services) == _OURS | {"store"}
    assert [name for name, service in services.items() if "build" in service] == ["loader"]
    for name in _OURS:
        service = services[name]
        assert service["image"] == "rtb-segments"
        assert service["read_only"]
        assert service["init"]
        assert service["cap_drop"] == ["ALL"]
        assert {"mem_limit", "pids_limit"} <= set(service)
        assert int(service["stop_grace_period"].removesuffix("s")) >= 20


def test_each_process_that_keeps_the_ledger_can_keep_it_in_postgresql(services: Any) -> None:
    with_postgres = _read("compose.postgres.yaml")["services"]
    urls = {
        name: service["environment"]["SEGMENTS_LEDGER_URL"]
        for name, service in with_postgres.items()
        if name != "ledger"
    }

    assert set(urls) == _OURS - {"serve"}  # the listener does not read the ledger
    assert set(urls.values()) == {"postgresql://segments:please@ledger:5432/segments"}


async def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
