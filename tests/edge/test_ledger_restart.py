"""
PostgreSQL, then the store, is restarted under every process of the control plane; none ends.
"""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.edge.control import Control
from tests.engines import Engine
from tests.postgres import Postgres

_DOWN_FOR_S = 4.0
"""Longer than any loop of theirs pauses."""


async def test_no_process_ends_with_its_ledger_or_its_store(
    valkey: Engine, postgres: Postgres, tmp_path: Path
) -> None:
    database = postgres.new_database()
    control = Control(tmp_path, valkey.url, postgres.url(database))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(control.stop)
        await control.start()
        known = await control.login()

        await asyncio.to_thread(postgres.stop)
        said = [await control.until(name, 503) for name in control.processes]
        refused = set()
        until_s = time.monotonic() + _DOWN_FOR_S
        while time.monotonic() < until_s:
            refused.add(await control.login())
        await asyncio.to_thread(postgres.start)
        for name in control.processes:
            await control.until(name, 200)
        again = await control.login()

        await asyncio.to_thread(valkey.stop)
        without_store = await control.until("loader", 503)
        alone = await control.login()
        await asyncio.to_thread(valkey.start)
        for name in control.processes:
            await control.until(name, 200)

        assert [process.returncode for process in control.processes.values()] == [None] * 3
    await asyncio.to_thread(postgres.drop, database)

    assert known == again == alone == (401, "")
    assert "store" in json.loads(without_store)["reason"]
    assert refused == {(503, "2")}
    assert all("ledger" in json.loads(each)["reason"] for each in said)
    assert not any("Traceback" in control.log(name) for name in control.processes)
