"""
`python -m loadtest external`: how fast runs of an external audience are loaded.

A CSV and a Parquet file with the same addresses, each in a store that began empty. Audience and
run are asked for over REST; the time is the run's, from its start in the loader to its end: reading
and hashing, the blob of ids, sorting, merge, checkpoints, and the members that a replacement drops.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.bench.costs import say
from loadtest.bench.load_rate_report import Measured
from loadtest.bench.loader_at_work import (
    PARTNER_ID,
    WrongCount,
    ended,
    environment_of,
    loading_into,
    look_again,
)
from loadtest.bench.stores import empty_store
from loadtest.ports import free_ports
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import reading
from segments.ledger.external_audience import base_connections, orgs
from segments.model.job import JobState
from segments.runtime import child_process
from segments.settings import Settings

ROWS_PER_S = 300_000
KINDS = ("CSV", "Parquet")

_BASE = "/core/ais/external-audience"
_ORG, _SANDBOX = "BENCH@AdobeOrg", "prod"
_BLOCK_ROWS = 100_000
_STOP_WITHIN_S = 30


def external_bench(*, rows: int) -> str:
    """
    Run the benchmark; return its table.

    Raises:
        WrongCount: Not all rows were loaded, or a process ended.
    """
    with tempfile.TemporaryDirectory(prefix="rtb-external-") as directory:
        return asyncio.run(_external_bench(Path(directory), rows))


async def _external_bench(directory: Path, rows: int) -> str:
    lines = [
        f"\nA run of an external audience, {rows:,} rows: an address and `delete`; CPU in µs per"
        f" row, of the store and of the loader.\n\n  {'':12}{'rows/s':>10}{'to reach':>10}"
        f"{'':10}{'store':>7}{'loader':>8}"
    ]
    for kind in KINDS:
        say(f"writing {rows:,} rows of {kind}")
        folder = directory / kind
        (folder / "in").mkdir(parents=True)
        _write(folder / "in" / f"rows.{kind.lower()}", kind, rows)
        say("loading them")
        one = await _run(directory / f"{kind}-data", folder, rows)
        verdict = "reached" if one.rows_per_s >= ROWS_PER_S else "missed"
        lines.append(
            f"  {kind:12}{one.rows_per_s:10,.0f}{ROWS_PER_S:10,}  {verdict:8}"
            f"{one.server_us:7.2f}{one.client_us:8.2f}"
        )
    return "\n".join(lines)


async def _run(data_dir: Path, folder: Path, rows: int) -> Measured:
    async with (
        loading_into(empty_store(data_dir), data_dir, rows) as at_work,
        _client(at_work.ledger, at_work.settings, folder) as (client, connection_id),
    ):
        audience_id = await _audience(client, connection_id)
        before = at_work.cpu_s()
        run = await _asked(client, f"{_BASE}/{audience_id}/runs", {"dataFilterStartTime": 1})
        async with reading(at_work.ledger) as conn:
            [job] = await jobs.jobs(conn, 1)
        job = await ended(at_work.ledger, job, at_work.loader)
        if job.state is not JobState.DONE or job.report.valid != rows:
            raise WrongCount(f"run {run['runId']}: {job.state}, {job.error or job.report.valid}")
        return await at_work.cost_of(rows, job, before)


@asynccontextmanager
async def _client(
    ledger: AsyncEngine, settings: Settings, folder: Path
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Serve the API until the end; yield a sandbox's client, and its connection to a folder."""
    async with ledger.begin() as conn:
        account = await accounts.partner(conn, PARTNER_ID)
        made = await orgs.find_or_add_sandbox(conn, _ORG, _SANDBOX, account, now_s=time.time())
        credential = await orgs.add_credential(conn, made, "bench", now_s=time.time())
        connection = await base_connections.add_connection(
            conn, made, "folder", folder.as_uri(), {}, now_s=time.time()
        )
    [port] = free_ports(1)
    environment = environment_of(settings) | {
        "SEGMENTS_API_HOST": "127.0.0.1",
        "SEGMENTS_API_PORT": str(port),
    }
    api = await child_process.start([sys.executable, "-m", "segments", "api"], env=environment)
    headers = {
        "Authorization": f"Bearer {credential.token}",
        "x-api-key": credential.api_key,
        "x-gw-ims-org-id": _ORG,
        "x-sandbox-name": _SANDBOX,
    }
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as client:
            while not await _is_ready(client):
                await look_again(api, "API")
            yield client, connection.public_id
    finally:
        await child_process.stop(api, within_s=_STOP_WITHIN_S)


async def _is_ready(client: aiohttp.ClientSession) -> bool:
    try:
        async with client.get("/openapi.json") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def _audience(client: aiohttp.ClientSession, connection_id: str) -> str:
    spec = {
        "name": "Bench",
        "description": "Addresses",
        "fields": [{"name": "mail", "type": "string", "identityNs": "email"}],
        "sourceSpec": {
            "path": "in",
            "type": "folder",
            "sourceType": "Cloud Storage",
            "baseConnectionId": connection_id,
        },
        "ttlInDays": "40",
        "audienceType": "people",
        "originName": "CUSTOM_UPLOAD",
    }
    operation_id = (await _asked(client, _BASE, spec))["operationId"]
    while True:
        async with client.get(f"{_BASE}/operations/{operation_id}") as answer:
            operation = await answer.json()
        if operation["status"] == "SUCCESS":
            audience_id: str = operation["audienceId"]
            return audience_id
        if operation["status"] != "PROCESSING":
            raise WrongCount(f"the audience: {operation}")
        await asyncio.sleep(0.1)


async def _asked(client: aiohttp.ClientSession, path: str, form: dict[str, Any]) -> Any:
    async with client.post(path, json=form) as answer:
        said = await answer.json()
        if answer.status >= 300:
            raise WrongCount(f"POST {path}: {answer.status}, {said.get('detail')}")
        return said


def _write(path: Path, kind: str, rows: int) -> None:
    if kind == "CSV":
        with path.open("w") as file:
            file.write("mail,delete\n")
            for block in _addresses(rows):
                file.writelines(f"{address},false\n" for address in block)
    else:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415

        schema = pa.schema({"mail": pa.string(), "delete": pa.bool_()})
        with parquet.ParquetWriter(path, schema) as writer:
            for block in _addresses(rows):
                columns = {"mail": block, "delete": [False] * len(block)}
                writer.write_table(pa.table(columns, schema))
    os.utime(path, (time.time() - 60,) * 2)


def _addresses(rows: int) -> Iterator[list[str]]:
    rng = random.Random(1)
    for start in range(0, rows, _BLOCK_ROWS):
        numbers = range(start, min(start + _BLOCK_ROWS, rows))
        yield [f"Person.{rng.getrandbits(24):06x}.{n}@example{n % 50}.com" for n in numbers]
