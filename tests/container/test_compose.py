"""`compose.yaml`, as far as it can be read and tried without an engine of containers."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from tests.container.engine import ROOT
from tests.engines import binary_of, free_port, start_server

_GIVEN = {
    "STORE_PASSWORD": "sesame",
    "BIDS_PASSWORD": "open",
    "WRITERS_PASSWORD": "write",
    "LEDGER_PASSWORD": "please",
}
WITHIN_S = 30

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
    _, *options = _read("compose.yaml")["services"]["store"]["command"]
    server = start_server(
        [binary_of("valkey"), *options, "--port", port, "--bind", "127.0.0.1", "--dir", str(folder)]
    )
    until_s = time.monotonic() + WITHIN_S
    while not _answers(Redis.from_url(f"redis://operator:sesame@127.0.0.1:{port}")):
        assert time.monotonic() < until_s, "the store does not answer"
        time.sleep(0.02)
    yield port
    server.terminate()
    server.wait()


def test_listener_and_writers_have_least_rights_and_others_none(port: str) -> None:
    operator = Redis.from_url(f"redis://operator:sesame@127.0.0.1:{port}")
    writer = Redis.from_url(f"redis://writers:write@127.0.0.1:{port}")
    bids = Redis.from_url(f"redis://bids:open@127.0.0.1:{port}")

    writer.hset("seg:1:x", "field", "value")
    assert bids.hget("seg:1:x", "field") == b"value"
    with pytest.raises(NoPermissionError):
        bids.hset("seg:1:x", "field", "other")
    for user in (bids, writer):
        with pytest.raises(NoPermissionError):
            user.hget("others", "field")
        with pytest.raises(NoPermissionError):
            user.flushall()
    for url in (f"redis://127.0.0.1:{port}", f"redis://:sesame@127.0.0.1:{port}"):
        with pytest.raises(AuthenticationError):
            Redis.from_url(url).ping()
    assert operator.config_get("appendonly") == {"appendonly": "yes"}
    assert operator.config_get("save") == {"save": ""}


def test_processes_log_in_as_the_users_of_the_store_with_its_rights(
    services: Any, port: str
) -> None:
    users = {
        urlsplit(value).username
        for name in _OURS
        for variable, value in services[name]["environment"].items()
        if variable.endswith("_REDIS_URL")
    }
    operator = Redis.from_url(f"redis://operator:sesame@127.0.0.1:{port}")

    assert users == {"bids", "writers"}
    acl = (ROOT / "deploy" / "redis.acl").read_text(encoding="utf-8")
    for user in users:
        [rules] = re.findall(rf"^user {user} on #\w+ (.+)$", acl, re.MULTILINE)
        operator.execute_command(  # type: ignore[no-untyped-call] # redis-py
            "ACL", "SETUSER", "as-in-file", "reset", *rules.split()
        )
        assert _rights(operator, user) == _rights(operator, "as-in-file")


def test_no_command_is_cut_by_the_shell_words_of_compose(services: Any) -> None:
    """Compose ends a command that is one string at its first `>`, `<`, `&`, `|` or `;`."""
    for service in services.values():
        command = service["command"]
        assert isinstance(command, list) or not set(command) & set("><&|;")


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


def _rights(operator: Redis, user: str) -> tuple[set[str], str, str]:
    found: Any = operator.acl_getuser(user)
    return {*found["commands"], *found["categories"]}, str(found["keys"]), str(found["channels"])


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
