"""The least rights at the store: those of `deploy/redis.acl`, enough and each needed."""

import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis as redis_py
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis

from docs.make.redis_acl import KEYS, rights
from segments.files.published_place import PublishedPlace
from segments.publish.options import PublishOptions
from segments.publish.publisher import Publisher
from segments.settings import Settings
from segments.store.command_names import WRITERS, WRITERS_IN_CLUSTER
from segments.store.servers.connection import connect
from segments.upkeep.doctor.findings import Grade
from segments.upkeep.doctor.rights import ARGUMENTS, look_at_rights
from segments.upkeep.sweep import sweep_daily
from tests.engines import Engine
from tests.segments.upkeep.histories import begun

ACL_FILE = Path(__file__).parents[4] / "deploy" / "redis.acl"
PASSWORD = "open-sesame"


def users() -> dict[str, list[str]]:
    """Return the rules of each user in the file, behind its password."""
    lines = [line.split() for line in ACL_FILE.read_text().splitlines()]
    return {name: rules for _, name, state, *rules in lines if state == "on"}


@pytest.fixture
def with_users(engine: Engine) -> Iterator[Engine]:
    """The engine, with the users of the file."""
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    for name, (_, *rules) in users().items():
        engine.ask("ACL SETUSER", name, "reset", "on", f"#{digest}", *rules)
    engine.ask("ACL LOG", "RESET")
    yield engine
    engine.ask("ACL DELUSER", *users())


def as_user(engine: Engine, name: str) -> str:
    return f"redis://{name}:{PASSWORD}@127.0.0.1:{engine.port}/0"


def refused(engine: Engine) -> set[str]:
    """Return what the server has refused to users; a client's own name is no matter."""
    with redis_py.Redis.from_url(engine.url) as client:
        said = {str(each["object"]).lower() for each in client.acl_log()}
    return said - {"client|setinfo"}


async def test_rights_of_the_writers_are_enough_for_deliveries_opt_outs_sweep_and_publication(
    with_users: Engine, settings: Settings, tmp_path: Path
) -> None:
    place = PublishedPlace(f"file://{tmp_path}/published", is_made=True)
    spool_dir = tmp_path / "spool"
    spool_dir.mkdir()
    at_once = PublishOptions(opt_outs_every_s=0, changes_every_s=0)
    async with (
        connect(as_user(with_users, "writers")) as redis,
        begun(settings, redis) as history,
    ):
        await history.happen_all(files=2)
        await sweep_daily(history.ledger, redis, history.tools.blobs, time.time)
        publisher = Publisher(
            history.ledger, redis, place, Ed25519PrivateKey.generate(), None, spool_dir, at_once,
            name="test", now_s=time.time,
        )  # fmt: skip
        await publisher.step()
        await history.happen_all(files=1)
        await publisher.step()
        finding = await look_at_rights(redis)

    assert finding.grade is Grade.GOOD, finding.what
    assert refused(with_users) == set()


@asynccontextmanager
async def without(engine: Engine, command: str) -> AsyncIterator[Redis]:
    """Give the store as a user of all rights of writers but one."""
    left = rights(set(WRITERS) - {command})
    engine.ask("ACL SETUSER", "w", "reset", "on", f">{PASSWORD}", *KEYS, *left)
    async with connect(as_user(engine, "w")) as redis:
        yield redis


async def test_each_command_that_a_writer_lacks_is_named_and_nothing_is_changed(
    engine: Engine,
) -> None:
    engine.ask("SET", "seg:1:probe", "as it was")
    for command in WRITERS:
        async with without(engine, command) as redis:
            finding = await look_at_rights(redis)

        [rule] = rights([command])
        assert finding.grade is Grade.BAD
        assert f"NOPERM to {command}; give its user {rule} and the keys" in finding.what
    assert engine.ask("GET", "seg:1:probe") == b"as it was"
    assert engine.ask("DBSIZE") == 1
    engine.ask("ACL DELUSER", "w")


async def test_keys_that_a_writer_may_not_use_are_named(engine: Engine) -> None:
    engine.ask("ACL SETUSER", "w", "reset", "on", f">{PASSWORD}", "~seg:2:*", "&*", "+@all")
    async with connect(as_user(engine, "w")) as redis:
        finding = await look_at_rights(redis)
    engine.ask("ACL DELUSER", "w")

    assert finding.grade is Grade.BAD
    assert "and the keys seg:1:*" in finding.what


def test_acl_file_is_refused_until_its_passwords_are_put_in(engine: Engine) -> None:
    for name, (password, *rules) in users().items():
        assert re.fullmatch(r"#SHA256_OF_[A-Z_]+", password)
        with pytest.raises(redis_py.ResponseError, match="ACL SETUSER"):
            engine.ask("ACL SETUSER", name, "on", password, *rules)


def test_arguments_are_those_of_commands_that_are_sent() -> None:
    assert set(ARGUMENTS) <= {*WRITERS, *WRITERS_IN_CLUSTER}
