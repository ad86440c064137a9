"""What the tests of the SFTP door through real clients start from."""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.segments.ingest.deliveries import as_json, email_hashes, metadata_of, text_of
from tests.sftp import Door, Ran, ended, until

CONTENT = text_of(email_hashes(50))


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """A door with two partners."""
    stopped = Door(tmp_path)
    await stopped.add_partner("shop")
    await stopped.add_partner("rival")
    async with stopped.running():
        yield stopped


def write_delivery(
    folder: Path, name: str = "people.txt", content: bytes = CONTENT, **said: Any
) -> None:
    """Write `NAME` and `NAME.json`."""
    metadata = metadata_of(content, records=len(content.splitlines()), partner_id="shop", **said)
    metadata["file"]["name"] = name
    (folder / name).write_bytes(content)
    (folder / f"{name}.json").write_bytes(as_json(metadata))


def status_of(door: Door, name: str = "people.txt", partner_id: str = "shop") -> Any:
    path = door.partner_folder(partner_id) / f"{name}.status"
    return json.loads(path.read_bytes()) if path.exists() else None


async def is_taken(door: Door, name: str = "people.txt") -> None:
    """Wait until a delivery is accepted and its data file has become a job."""
    await until(lambda: status_of(door, name) is not None)
    assert "error" not in status_of(door, name), status_of(door, name)
    await until(lambda: f"delivery {status_of(door, name)['transaction_id']} is job" in log(door))


def log(door: Door) -> str:
    return door.log.read_text()


async def ran(door: Door, *command: str, text: str = "") -> Ran:
    """Run a client in the door's folder."""
    client = await asyncio.create_subprocess_exec(
        *command,
        cwd=door.folder,
        stdin=PIPE if text else DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(door.folder), "TERM": "dumb"},
    )
    if client.stdin is not None:
        client.stdin.write(text.encode())
        client.stdin.close()
    return await ended(client)


def ssh_options(door: Door, key: str = "shop") -> list[str]:
    """Return the options that OpenSSH's clients take alike."""
    return [
        "-i", str(door.folder / key), "-F", "none", "-o", "BatchMode=yes",
        "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
        "-o", f"UserKnownHostsFile={door.folder / 'hosts'}",
    ]  # fmt: skip
