"""
A day's work in the topology: bids without a pause, each judged, and persons who change meanwhile.

The requests, their expectations and the judges are the soak's (`loadtest/soak`); its waves come by
the doors here: through nginx to the REST doors and the bucket, and by SFTP.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from multiprocessing import get_context
from typing import Any

import aiohttp

from loadtest.delivery import metadata_of
from loadtest.population import PARTNERS, Population, Share
from loadtest.seed import seed
from loadtest.soak.drive import drive
from loadtest.soak.shared import BROKEN, CALM, Count, Shared, WaveState
from loadtest.soak.table import Change, Table, Wave, table_of
from segments.model.identity import IdentifierKind
from tests.deploy.topology import Topology
from tests.rest import PASSWORD
from tests.sftp import new_key

IDS = 2_000
_DIFFERENT = 1_500
_WAVES = 18
_CONNECTIONS = 2
_OPT_OUTS = "/data-subject-requests"
_WITHIN_S = 240
_POLL_S = 0.1
_CALM_MAX_SHARE = 0.02
"""Of bids that may pass through in calm, for want of time on a busy machine."""


class Day:
    """The day; `beginning` gives one."""

    def __init__(self, topology: Topology, session: aiohttp.ClientSession) -> None:
        self.topology = topology
        self.doors_are_well = True
        """Else a client may be told to come again."""
        self.answers: Counter[int] = Counter()
        """The statuses of what a partner asks all day."""
        # Of one segment, as a file of the Audience API is: all of its persons change at once.
        self._population = Population(IDS, segments_per_id=1)
        self._session = session
        self._context = get_context("spawn")
        self._notes = self._context.Queue()
        self._doors = cycle((self._by_sftp, self._by_upload))
        self._tokens: dict[str, str] = {}
        self._privacy_token = ""
        self._next = 0
        self._table: Table
        self.shared: Shared

    async def begin(self) -> None:
        """Seed the topology, and let the partners in."""
        await seed(self._population, self.topology.settings)
        for partner in PARTNERS:
            name = partner.public_id
            await self.topology.run(
                "user", "add", name, "--partner", name, "--password-stdin",
                stdin=f"{PASSWORD}\n".encode(),
            )  # fmt: skip
            new_key(self.topology.sftp.folder / name)
            await self.topology.run("key", "add", name, f"sftp/{name}.pub")
            said = await self.ask("POST", "/login", {"username": name, "password": PASSWORD})
            self._tokens[name] = said["token"]
        said = await self.topology.run("token", "create")
        self._privacy_token = next(word for word in said.split() if word.startswith("rtbp_"))
        address = f"127.0.0.1:{self.topology.bid_port}"
        table = table_of(self._population, seed=1, requests=_DIFFERENT, waves=_WAVES, host=address)
        # Only they are in files, and so in a rebuilt store.
        dues = [due for due in table.dues if all(map(self._has_email, due.request.planted))]
        self._table = Table(dues, table.waves)
        self.shared = Shared(self._context, 1, len(table.waves))

    @asynccontextmanager
    async def bidding(self) -> AsyncIterator[None]:
        """Bid through nginx without a pause."""
        driver = self._context.Process(
            target=drive,
            args=(
                0, self._table.dues, self.topology.bid_port, _CONNECTIONS, self.shared,
                self._notes, self.topology.ca.bundle,
            ),
        )  # fmt: skip
        driver.start()
        asking = asyncio.create_task(self._ask_all_day())
        try:
            async with asyncio.timeout(_WITHIN_S):
                while not self.shared.total(Count.ANSWERED):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(_POLL_S)
            yield
        finally:
            self.shared.ends()
            asking.cancel()
            await asyncio.to_thread(driver.join, _WITHIN_S)
            driver.kill()
            with suppress(asyncio.CancelledError):
                await asking

    def judge(self) -> None:
        """Assert that no bid so far was answered wrongly, nor left as it came without a cause."""
        notes = []
        while not self._notes.empty():
            notes.append(self._notes.get())
        total = self.shared.total
        counts = {count.name: total(count) for count in Count}
        assert not notes, (notes, counts)
        assert total(Count.WRONG) == total(Count.LOST) == 0, counts
        calm = self.shared.passed_through(CALM)
        assert calm <= total(Count.ANSWERED) * _CALM_MAX_SHARE, counts
        assert total(Count.CALM_STORE_DOWN) == total(Count.CALM_SHED) == 0, counts

    async def right(self, bids: int) -> None:
        """Wait until so many more bids were answered rightly."""
        wanted = self.shared.total(Count.RIGHT) + bids
        async with asyncio.timeout(_WITHIN_S):
            while self.shared.total(Count.RIGHT) < wanted:  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_S)

    @asynccontextmanager
    async def broken(self, *, is_emptied: bool = False) -> AsyncIterator[None]:
        """Meanwhile bids may pass through, until every listener enriches again."""
        if is_emptied:
            self.shared.empties()
        else:
            self.shared.breaks()
        before = self.shared.passed_through(BROKEN)
        yield
        for listener in self.topology.listeners:
            await listener.until(200, "?strict")
        self.shared.mended(time.monotonic_ns())
        assert self.shared.passed_through(BROKEN) > before, "the bids did not notice the fault"

    async def change(self, changes: int = 1) -> None:
        """Have so many groups of persons change, each after the other was acknowledged."""
        for _ in range(changes):
            number, self._next = self._next, self._next + 1
            wave = self._table.waves[number]
            self.shared.waves[number] = WaveState.PASSING
            if wave.change is Change.JOIN:
                await self._join(wave)
            else:
                await self._say_no(wave)
            self.shared.waves[number] = WaveState.OVER

    async def ask(
        self, method: str, path: str, body: Any = None, *, bearer: str = "", status: int = 200
    ) -> Any:
        """Ask a REST door through nginx; while it says so, come again."""
        async with asyncio.timeout(_WITHIN_S):
            while True:
                answered, said = await self.answer(method, path, body, bearer=bearer)
                if answered == status:
                    return said
                assert answered == 503, (path, answered, said)
                await asyncio.sleep(_POLL_S)

    async def answer(
        self, method: str, path: str, body: Any = None, *, bearer: str = ""
    ) -> tuple[int, Any]:
        """Ask a REST door through nginx once; return the status and the answer."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        url = f"https://127.0.0.1:{self.topology.doors_port}{path}"
        async with self._session.request(method, url, json=body, headers=headers) as answer:
            if answer.status == 503:
                assert "Retry-After" in answer.headers, path
            raw = await answer.read()
            is_json = answer.content_type.endswith("json")
            return answer.status, json.loads(raw) if is_json else raw

    async def opt_out(self, hashes: Sequence[str]) -> tuple[int, Any]:
        """Ask once for an opt-out."""
        body = {"action": "RESTRICT", "emailHashes": hashes}
        return await self.answer("POST", _OPT_OUTS, body, bearer=self._privacy_token)

    async def list_deliveries(self) -> tuple[int, Any]:
        """Ask once as a partner does who waits for a file."""
        return await self.answer("GET", "/deliveries", bearer=self._tokens[PARTNERS[0].public_id])

    async def _ask_all_day(self) -> None:
        while True:
            status, said = await self.list_deliveries()
            is_right = status == 200 or (status == 503 and not self.doors_are_well)
            assert is_right, (status, said)
            self.answers[status] += 1
            await asyncio.sleep(_POLL_S)

    def _has_email(self, number: int) -> bool:
        return self._population.kind_of(number) is IdentifierKind.EMAIL

    def _hashes(self, wave: Wave) -> Sequence[str]:
        return [self._population.email_hash(n) for n in wave.numbers if self._has_email(n)]

    async def _say_no(self, wave: Wave) -> None:
        body = {"action": wave.change.name, "emailHashes": self._hashes(wave)}
        await self.ask("POST", _OPT_OUTS, body, bearer=self._privacy_token, status=202)

    async def _join(self, wave: Wave) -> None:
        hashes = self._hashes(wave)
        content = "".join(f"{digest}\n" for digest in hashes).encode()
        [share] = self._population.shares(self._population.cohort_of(wave.numbers[0]))
        kind = self._population.hash_of(wave.numbers[0])
        async with asyncio.timeout(_WITHIN_S):
            await next(self._doors)(content, share, kind)

    async def _by_sftp(self, content: bytes, share: Share, _: str) -> None:
        metadata = metadata_of(content, content.count(b"\n"), share)
        sftp, name, partner = self.topology.sftp, metadata.file.name, share.partner.public_id
        (sftp.folder / name).write_bytes(content)
        (sftp.folder / f"{name}.json").write_text(metadata.model_dump_json(exclude_none=True))
        put = await sftp.sftp(partner, f"put {name}", f"put {name}.json")
        assert put.status == 0, put.said
        while True:
            got = await sftp.sftp(partner, f"get {name}.status")
            if got.status == 0:
                answer = json.loads((sftp.folder / f"{name}.status").read_bytes())
                assert "error" not in answer, answer
                if all("code" in segment for segment in answer["segments"]):
                    return
            await asyncio.sleep(_POLL_S)

    async def _by_upload(self, content: bytes, share: Share, kind: str) -> None:
        [segment_id] = share.segment_ids
        bearer = self._tokens[share.partner.public_id]
        form = {"filename": "people.txt", "action": "add", "type": kind}
        upload = await self.ask("POST", f"/audience/upload/{segment_id}", form, bearer=bearer)
        url = upload["output"]["presignedURI"]
        assert url.startswith(self.topology.login_of_bucket["AWS_ENDPOINT_URL"])
        async with self._session.put(url, data=content) as put:
            assert put.status == 200, await put.text()
        status = ""
        while status != "done":
            await asyncio.sleep(_POLL_S)
            path = f"/audience/upload/{upload['requestId']}"
            status = (await self.ask("GET", path, bearer=bearer))["output"]["status"]
            assert status != "failed"
