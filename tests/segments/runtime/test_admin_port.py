import json
import socket
import urllib.error
import urllib.request
from asyncio import to_thread
from importlib.metadata import version
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import open_ledger
from segments.ledger.health import ledger_reasons
from segments.loader.metrics import Metrics
from segments.runtime.admin_port import shown
from segments.runtime.ports import CannotListen
from segments.runtime.tls import TlsFiles
from segments.settings import Settings
from tests.tls import TestCa


def get(port: int | None, path: str, tls: SSLContext | None = None) -> tuple[int, str]:
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10, context=tls) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def asked(path: str, *, reasons: list[str]) -> tuple[int, Any]:
    async def why() -> list[str]:
        return reasons

    metrics = Metrics()
    metrics.store_is(well=True)
    async with shown("SEGMENTS_LOADER_PORT", "127.0.0.1", 0, metrics.registry, why) as port:
        return await to_thread(get, port, path)


async def test_prometheus_is_answered() -> None:
    status, said = await asked("/metrics", reasons=[])

    assert status == 200
    assert "segments_store_is_well 1.0" in said


async def test_prometheus_is_answered_over_tls_though_another_says_nothing(
    tmp_path: Path,
) -> None:
    async def why() -> list[str]:
        return []

    ca, registry = TestCa.in_folder(tmp_path), Metrics().registry
    files = TlsFiles("SEGMENTS_ADMIN", ca.cert, ca.key)
    async with shown("SEGMENTS_LOADER_PORT", "127.0.0.1", 0, registry, why, files) as port:
        with socket.create_connection(("127.0.0.1", port or 0)):
            status, _ = await to_thread(get, port, "/metrics", ca.client())

    assert status == 200


async def test_process_that_can_do_its_work_is_ready() -> None:
    status, said = await asked("/health/ready", reasons=[])

    assert (status, json.loads(said)) == (
        200,
        {
            "status": "ready",
            "ready": True,
            "version": version("rtb-segments"),
            "enriching": True,
            "reason": "",
        },
    )


async def test_process_that_cannot_says_why_and_lives() -> None:
    ready = await asked("/health/ready", reasons=["waits for the store"])
    live = await asked("/health/live", reasons=["waits for the store"])

    assert (ready[0], json.loads(ready[1])["reason"]) == (503, "waits for the store")
    assert json.loads(ready[1])["status"] == "not_ready"
    assert live[0] == 200


async def test_without_a_port_nothing_is_shown() -> None:
    async def never() -> list[str]:
        raise AssertionError

    async with shown("SEGMENTS_LOADER_PORT", "127.0.0.1", None, Metrics().registry, never) as port:
        assert port is None


async def test_port_that_is_taken_is_named_by_its_setting() -> None:
    async def never() -> list[str]:
        raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"SEGMENTS_LOADER_PORT={port}: Address already"):
            async with shown("SEGMENTS_LOADER_PORT", "127.0.0.1", port, Metrics().registry, never):
                raise AssertionError


async def test_ledger_that_is_there_is_no_reason(ledger: AsyncEngine) -> None:
    assert await ledger_reasons(ledger) == []


async def test_ledger_that_cannot_be_read_is_one(settings: Settings) -> None:
    async with open_ledger(settings.ledger_dsn) as ledger:
        async with ledger.begin() as conn:
            await conn.execute(text("drop table catalog_revision"))

        assert await ledger_reasons(ledger) == ["ledger (OperationalError)"]
