"""`serve --follow`: a pod, as a host starts it."""

import asyncio
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from loadtest.otlp import attributes_of, collector
from segments.ledger import accounts, audiences, recipients
from segments.model.identity import Id, IdentifierKind
from segments.model.record import Change, OptOutAction
from segments.projection.catalog import publish_catalog
from segments.projection.opt_outs import record_opt_out
from segments.runtime import child_process
from segments.runtime.store_url import store_url
from segments.store.published.latest import public_text, read, sign
from segments.store.reader import read_meta
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from segments.upkeep.doctor.findings import Finding, Grade
from segments.upkeep.doctor.follower import Pod as Examined
from segments.upkeep.doctor.follower import examine_pod
from tests.e2e.service import Service, bid_request, sha256
from tests.edge.small_store import eventually
from tests.memory import family, proportional_bytes
from tests.segments.follow.conftest import KEY, TRUSTED, Link
from tests.segments.ingest.deliveries import ids_of

_BESIDES_DATA_BYTES = 114_000_000
"""Of follower, store, bid listener with a worker, and its fork server, interpreted."""

EMAIL, OTHER = "jane@example.com", "joe@example.com"


class Pod(Service):
    """`rtb-segments serve --follow` in a folder of its own."""

    within: tuple[str, ...] = ()
    """A command that starts it."""

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-IS", child_process.__file__, str(os.getpid()),
                *self.within, sys.executable, "-m", "segments", "serve",
                env=self.environment, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip

    async def get(self, path: str) -> int:
        """Ask the health of it."""
        url = f"{self.admin}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status

    async def until_unready(self) -> None:
        """Wait until it says that it is not ready."""
        async with asyncio.timeout(30):
            while await self.get("/health/ready") != 503:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)

    def child(self, program: str) -> int:
        """Return the process id of a program that it runs."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        [found] = [
            int(pid)
            for pid in children.split()
            if program.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return found


@pytest.fixture
async def person(link: Link) -> Id:
    """Somebody whom a recipient may be shown in an audience."""
    [id_, other] = ids_of([sha256(EMAIL), sha256(OTHER)])
    history = link.history
    async with history.ledger.begin() as conn:
        shoes = await audiences.find_or_create_audience(
            conn, history.partner, history.partner, "77", "Shoes", now_s=1.0
        )
        made = await recipients.add_recipient(conn, "bidder", now_s=1.0)
        await recipients.grant(conn, made, await accounts.partner(conn, history.partner.public_id))
    await publish_catalog(history.ledger, history.redis)
    writer = Writer(history.redis, await read_meta(history.redis))
    await writer.merge([id_, other], [Change(shoes.id, is_add=True)])
    return id_


@asynccontextmanager
async def pod(link: Link, **environment: str) -> AsyncIterator[Pod]:
    folder = link.tmp_path / "pod"
    folder.mkdir(exist_ok=True)
    started = Pod(
        folder,
        RTB_FOLLOW=link.url,
        RTB_FOLLOW_KEYS=public_text(KEY.public_key()),
        RTB_FOLLOW_POLL_S="0.1",
        **environment,
    )
    await started.start()
    try:
        yield started
    finally:
        status = await started.stop(signal.SIGTERM)
    assert status == 0, started.log.read_text()


async def test_pod_answers_by_what_is_published_and_obeys_a_no(link: Link, person: Id) -> None:
    publisher = link.publisher(["bidder"])
    await publisher.step()
    async with pod(link, RTB_DATA_AGE_HEADER="1") as running:
        await running.until_ready()
        answer = await running.bid(bid_request(EMAIL), "bidder")
        assert (answer.outcome, b'"77"' in answer.body) == ("enriched", True)
        await says_its_age(running)
        assert await running.metric('rtb_follow_events_total{event="full"}') == 1
        assert [each.grade for each in await examined(link, running)] == [Grade.GOOD] * 3
        await fits_into_a_host(running)

        # A no.
        ids = [(IdentifierKind.EMAIL, person)]
        history = link.history
        await record_opt_out(history.ledger, history.redis, OptOutAction.RESTRICT, ids, None)
        await publisher.step()
        began_s = time.monotonic()
        await running.until("opted_out", bid_request(EMAIL), "bidder")
        assert time.monotonic() - began_s < 10
        assert (await running.bid(bid_request(OTHER), "bidder")).outcome == "enriched"

        # Its store is killed: bids pass through, and it is filled anew.
        os.kill(running.child("valkey"), signal.SIGKILL)
        await running.until("store_down", bid_request(OTHER), "bidder")
        await running.until("enriched", bid_request(OTHER), "bidder")
        assert (await running.bid(bid_request(EMAIL), "bidder")).outcome == "opted_out"

        # Its bid listener is killed: the same store is asked by the next, not forked as the first.
        os.kill(running.child("rtb.__main__"), signal.SIGKILL)
        await eventually(lambda: running.log.read_text().count("bids on port") == 2)
        await running.until_ready()
        assert (await running.bid(bid_request(EMAIL), "bidder")).outcome == "opted_out"

        # What is published is too old.
        latest = read((link.directory / "LATEST").read_bytes(), TRUSTED)
        old = replace(latest, number=latest.number + 1, made_at_s=time.time() - 1000)
        (link.directory / "LATEST").write_bytes(sign(old, KEY))
        await running.until("store_down", bid_request(OTHER), "bidder")
        await running.until_unready()
        too_old = re.compile(
            r"the followed data are 1\d\d\d s old, and RTB_FOLLOW_MAX_AGE_S permits 900 s: LATEST"
            r" is not renewed: see whether `rtb-segments publish` runs"
        )
        assert too_old.search(await running.reason())
        await eventually(lambda: bool(too_old.search(running.log.read_text())))
        assert await running.metric("rtb_follow_age_seconds") > 1000
        publication, follower, store = await examined(link, running)
        assert publication.what.endswith(", and whether it can reach its ledger and its store")
        assert too_old.search(follower.what)
        assert [publication.grade, follower.grade, store.grade] == [
            Grade.BAD,
            Grade.BAD,
            Grade.GOOD,
        ]
        assert await running.get("/health/live") == 200

        link.clock.ahead_s = 30
        await publisher.step()
        (link.directory / "LATEST").write_bytes(
            sign(
                replace(
                    read((link.directory / "LATEST").read_bytes(), TRUSTED),
                    number=old.number + 1,
                ),
                KEY,
            )
        )
        await running.until("enriched", bid_request(OTHER), "bidder")
        await running.until_ready()

        # Its mount hangs: bids go on, and it can be stopped.
        (link.directory / "LATEST").unlink()
        os.mkfifo(link.directory / "LATEST")
        await a_look_hangs(link.directory / "LATEST")
        assert (await running.bid(bid_request(OTHER), "bidder")).outcome == "enriched"
        await eventually(lambda: "not followed: LATEST can't be read" in running.log.read_text())


async def examined(link: Link, running: Pod) -> list[Finding]:
    """Examine the pod as `doctor` does in it."""
    data_dir = running.folder / "data"
    found = Examined(link.url, TRUSTED, 900, data_dir, store_url(None, data_dir))
    return [finding async for finding in examine_pod(found)]


async def fits_into_a_host(running: Pod) -> None:
    """See what all processes together take besides the data."""
    async with connect(store_url(None, running.folder / "data")) as redis:
        of_data: int = (await redis.info("memory"))["used_memory"]
    pids = family(running.process.pid)
    taken = {pid: proportional_bytes(pid) // 1_000_000 for pid in pids}
    assert sum(map(proportional_bytes, pids)) <= of_data + _BESIDES_DATA_BYTES, taken


async def a_look_hangs(fifo: Path) -> None:
    """Wait until a look waits for the file to be opened; let it go on, to an empty file."""

    def is_awaited() -> bool:
        try:
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody waits
                raise
            return False
        return True

    await eventually(is_awaited)


async def says_its_age(running: Pod) -> None:
    """See the age of the data in answers and metrics."""
    async with aiohttp.ClientSession() as session:
        for path in ("enrich", "patch"):
            url = f"http://127.0.0.1:{running.port}/openrtb2/{path}/bidder"
            async with session.post(url, json=bid_request(EMAIL)) as answer:
                assert 0 <= int(answer.headers["X-Enrich-Data-Age"]) < 60
    assert 0 <= await running.metric("rtb_follow_age_seconds") < 60
    assert await running.metric("rtb_follow_max_age_seconds") == 900


def test_pod_imports_nothing_that_only_the_control_plane_needs() -> None:
    """Its memory is a host's: SQLAlchemy alone would be 20 MB."""
    found = subprocess.check_output(
        [sys.executable, "-c", "import sys, segments.cli.processes, segments.processes.follow\n"
         "print(*sys.modules)"],
        text=True,
    )  # fmt: skip

    heavy = {"sqlalchemy", "asyncssh", "alembic", "boto3", "aiohttp", "numpy"}
    assert not heavy & set(found.split())


async def test_pod_is_not_ready_before_the_first_full(link: Link, person: Id) -> None:
    """And a collector is sent the same of the follower as of the listener beside it."""
    with collector() as taken:
        async with pod(link, SEGMENTS_OTLP_URL=taken.url) as running:
            await becomes_ready(link, running)
    sent = taken.metrics("listener")
    [number] = sent["rtb_follow_number"].gauge.data_points
    assert number.as_double >= 1
    assert [
        point.as_double
        for point in sent["rtb_follow_events"].sum.data_points
        if attributes_of(point) == {"event": "full"}
    ] == [1]


async def becomes_ready(link: Link, running: Pod) -> None:
    """See it before its first full, and after."""
    async with asyncio.timeout(60):
        while True:
            try:
                assert await running.get("/health/ready") == 503
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    assert await running.get("/health/live") == 200

    async def is_passed() -> bool:
        try:
            return (await running.bid(bid_request(EMAIL), "bidder")).outcome == "store_down"
        except aiohttp.ClientConnectionError:
            return False  # for two seconds it might become ready

    await eventually(is_passed)

    async def is_said() -> bool:
        return "LATEST: no such directory" in await running.reason()

    await eventually(is_said)

    await link.publisher(["bidder"]).step()

    await running.until("enriched", bid_request(EMAIL), "bidder")
