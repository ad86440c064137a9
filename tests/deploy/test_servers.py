"""The configurations of other servers: nginx and Sentinels take them as they are."""

import asyncio
import subprocess
from pathlib import Path

import aiohttp
import redis
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtest.ports import free_ports
from tests.cluster import until_true
from tests.deploy.servers import (
    SENTINEL_PASSWORD,
    Deployed,
    nginx,
    nginx_conf,
    running_nginx,
    sentinel_conf,
    with_replicas,
)
from tests.edge.small_store import eventually
from tests.engines import binary_of, free_port, start_server
from tests.tls import TestCa


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text(nginx_conf(tmp_path, TestCa.in_folder(tmp_path / "ca")))

    tried = subprocess.run(
        [nginx(), "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert tried.returncode == 0, tried.stderr
    assert "[warn]" not in tried.stderr


async def test_store_of_our_users_has_after_a_restart_what_was_written(engine_name: str) -> None:
    """
    Redis reads a transaction back as its user `default`, who must have the rights.
    """
    [server] = Deployed(engine_name).servers[:1]
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            with client.pipeline(transaction=True) as both:
                both.set("seg:1:one", 1).set("seg:1:other", 1).execute()
            client.eval("redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 1)", 2, "a", "b")
            before = set(client.keys())
            server.restart()
            after = set(client.keys())
            refused = client.acl_log()
    finally:
        server.remove()

    assert len(before) == 4
    assert after == before
    assert refused == []


async def test_delivery_goes_past_a_replica_that_refuses_and_is_never_sent_twice(
    tmp_path: Path,
) -> None:
    ca = TestCa.in_folder(tmp_path / "ca")
    port, gone, *others = free_ports(4)
    came: list[str] = []

    async def take(request: web.Request) -> web.Response:
        came.append(request.path)
        if request.path == "/broken-off" and request.transport is not None:
            request.transport.abort()
        return web.Response(text=await request.text())

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", take)
    async with TestServer(app) as replica, aiohttp.ClientSession() as session:
        assert replica.port is not None
        text = nginx_conf(tmp_path, ca, (others[0], port, others[1]))
        text = with_replicas(text, [gone], [gone, replica.port])

        async def post(path: str) -> int:
            url = f"https://127.0.0.1:{port}{path}"
            async with session.post(url, data=b"hash", ssl=ca.client()) as answer:
                return answer.status

        with running_nginx(tmp_path, text):
            await eventually(lambda: _listens(port))
            statuses = [await post("/whole") for _ in range(6)]
            broken_off = await post("/broken-off")

    assert statuses == [200] * 6
    assert broken_off == 502
    assert came == ["/whole"] * 6 + ["/broken-off"]


def test_sentinel_takes_its_configuration_and_watches_the_service(
    engine_name: str, tmp_path: Path
) -> None:
    port = free_port()
    file = tmp_path / "sentinel.conf"
    file.write_text(sentinel_conf(port))
    server = start_server([binary_of(engine_name), str(file), "--sentinel"])
    try:
        with redis.Redis(port=int(port), password=SENTINEL_PASSWORD) as client:
            until_true(lambda: _answers(client))
            watched = client.sentinel_masters()
    finally:
        server.kill()
        server.wait()

    assert list(watched) == ["segments"]
    assert watched["segments"]["quorum"] == 2


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
