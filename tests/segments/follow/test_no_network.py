"""A pod in a network namespace of its own: nothing leads out of it but its mount."""

import asyncio
import ctypes
import http.client
import json
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from segments.model.identity import Id
from segments.store.published.latest import public_text
from tests.e2e.service import bid_request
from tests.edge.small_store import eventually
from tests.segments.follow.conftest import KEY, Link
from tests.segments.follow.test_serve import EMAIL, Pod
from tests.segments.follow.test_serve import person as person  # noqa: PLC0414 - a fixture

_CLONE_NEWNET = 0x40000000

_WITH_LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def _may_unshare() -> None:
    asked = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    if asked.returncode:
        pytest.skip("this user may make no network namespace (unshare -n)")


@pytest.mark.usefixtures("_may_unshare")
async def test_pod_without_a_route_but_its_mount_answers(link: Link, person: Id) -> None:
    await link.publisher(["bidder"]).step()
    running = Pod(
        link.tmp_path,
        RTB_FOLLOW=link.url,
        RTB_FOLLOW_KEYS=public_text(KEY.public_key()),
        RTB_FOLLOW_POLL_S="0.1",
    )
    running.within = ("unshare", "-n", sys.executable, "-c", _WITH_LOOPBACK)
    await running.start()
    try:

        async def is_ready() -> bool:
            return await asked_within(running, running.admin_port, "/health/ready?strict") == 200

        await eventually(is_ready)
        routes = Path(f"/proc/{running.process.pid}/net/route").read_text().splitlines()
        assert len(routes) == 1, "a header, and no route"

        body, path = json.dumps(bid_request(EMAIL)), "/openrtb2/enrich/bidder"
        assert await asked_within(running, running.port, path, body) == "enriched"
    finally:
        running.process.terminate()
        assert await running.process.wait() == 0, running.log.read_text()


async def asked_within(running: Pod, port: int, path: str, body: str | None = None) -> object:
    """Ask from within the pod's namespace; return the outcome, or the status without one."""
    found: list[object] = []

    def ask() -> None:
        try:
            with Path(f"/proc/{running.process.pid}/ns/net").open("rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                connection.request("GET" if body is None else "POST", path, body)
                answer = connection.getresponse()
                found.append(answer.getheader("X-Enrich-Outcome") or answer.status)
                answer.read()
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=ask)  # of its own: it stays in that namespace
    thread.start()
    await asyncio.to_thread(thread.join)
    return found[0]
