"""
What clients that partners have do with the SFTP door, and what they must be able to.

Whole deliveries by each of them: `tests.edge.clients.test_sftp`.
"""

import asyncio
import socket
from pathlib import Path

import paramiko
import pytest

from tests.edge.sftp_door import (
    CONTENT,
    door,
    is_taken,
    ran,
    ssh_options,
    status_of,
    write_delivery,
)
from tests.sftp import Door, until

__all__ = ["door"]

FILES = ("people.txt", "people.txt.json")


def _put_by_paramiko(door: Door, port: int) -> list[int | None]:
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1", port, "shop", key_filename=str(door.folder / "shop"),
            allow_agent=False, look_for_keys=False,
        )  # fmt: skip
        with client.open_sftp() as sftp:
            return [sftp.put(str(door.folder / name), name).st_size for name in FILES]


async def test_file_that_was_taken_can_be_looked_at(door: Door) -> None:
    write_delivery(door.folder)
    await door.sftp("shop", "put people.txt.json", "put people.txt")
    await is_taken(door)

    looked = await door.sftp("shop", "ls -l people.txt")

    assert looked.status == 0, looked.said
    assert f" {len(CONTENT)} " in looked.said


@pytest.mark.parametrize("temporary", [".people.txt", ".in.people.txt.", "people.txt.part"])
async def test_file_is_taken_once_it_has_its_name(door: Door, temporary: str) -> None:
    write_delivery(door.folder)

    sent = await door.sftp(
        "shop", "put people.txt.json", f"put people.txt {temporary}",
        f"rename {temporary} people.txt",
    )  # fmt: skip

    assert sent.status == 0, sent.said
    await is_taken(door)


async def test_metadata_under_a_temporary_name_is_not_read(door: Door) -> None:
    write_delivery(door.folder, "later.txt")
    write_delivery(door.folder)
    await door.sftp("shop", "put people.txt.json .people.txt.json", "put later.txt.json")

    await until(lambda: status_of(door, "later.txt") is not None)

    assert status_of(door) is None
    assert status_of(door, ".people.txt") is None


@pytest.mark.parametrize(
    "algorithms",
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-256", "rsa-sha2-512"],
)
async def test_client_that_knows_one_kind_of_host_key_gets_in(door: Door, algorithms: str) -> None:
    looked = await ran(
        door, "sftp", "-b", "-", *ssh_options(door), "-P", str(door.port),
        "-o", f"HostKeyAlgorithms={algorithms}", "shop@127.0.0.1", text="ls\n",
    )  # fmt: skip

    assert looked.status == 0, looked.said


async def test_fingerprints_of_the_host_keys_are_printed(door: Door) -> None:
    scanned = await ran(door, "ssh-keyscan", "-p", str(door.port), "127.0.0.1")
    (door.folder / "scanned").write_text(
        "".join(f"{line}\n" for line in scanned.said.splitlines() if not line.startswith("#"))
    )
    found = await ran(door, "ssh-keygen", "-l", "-f", "scanned")
    fingerprints = {line.split()[1] for line in found.said.splitlines()}

    process = await door.command("key", "host")
    await process.wait()

    assert len(fingerprints) == 3
    assert all(fingerprint in door.log.read_text() for fingerprint in fingerprints)


async def test_strangers_that_say_nothing_shut_nobody_out(door: Door) -> None:
    silent = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(120)]
    try:
        looked = await door.sftp("shop", "ls")
    finally:
        for each in silent:
            each.close()

    assert looked.status == 0, looked.said


async def test_full_folder_is_told_to_the_client_and_to_the_log(door: Door) -> None:
    await door.sftp("shop", "ls")
    for number in range(1000):
        (door.partner_folder("shop") / f"{number}.txt").touch()

    def put() -> str:
        with pytest.raises(OSError, match="remove some") as caught:
            _put_by_paramiko(door, door.port)
        return str(caught.value)

    write_delivery(door.folder)
    await asyncio.to_thread(put)

    assert "'shop': open refused: there are 1000 files in the folder" in door.log.read_text()


async def test_answers_that_nobody_deletes_leave_room(door: Door) -> None:
    await door.sftp("shop", "ls")
    for number in range(1005):
        (door.partner_folder("shop") / f"{number}.status").touch()
    write_delivery(door.folder)

    sent = await door.sftp("shop", *(f"put {name}" for name in FILES))

    assert sent.status == 0, sent.said
    await is_taken(door)


async def test_partner_with_too_many_connections_is_told(tmp_path: Path) -> None:
    door = Door(tmp_path, SEGMENTS_SFTP_MAX_SESSIONS_PER_PARTNER="1")
    await door.add_partner("shop")
    async with door.running():
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        await asyncio.to_thread(
            client.connect, "127.0.0.1", door.port, "shop", key_filename=str(tmp_path / "shop"),
            allow_agent=False, look_for_keys=False,
        )  # fmt: skip
        refused = await ran(
            door, "sftp", "-b", "-", *ssh_options(door), "-P", str(door.port), "shop@127.0.0.1",
            text="ls\n",
        )  # fmt: skip
        client.close()

    assert refused.status == 255
    assert "more than 1 connections of this partner" in refused.said
    assert "'shop': login refused: more than 1 connections" in door.log.read_text()


async def test_no_status_is_shown_from_the_put_of_a_newer_metadata_file_on(door: Door) -> None:
    write_delivery(door.folder)
    await door.sftp("shop", *(f"put {name}" for name in FILES))
    await is_taken(door)
    first = status_of(door)["transaction_id"]
    write_delivery(door.folder, content=CONTENT[:65])

    got = await door.sftp("shop", "put people.txt.json", "-get people.txt.status", "!true")

    fetched = door.folder / "people.txt.status"
    assert got.status == 0, got.said
    assert not fetched.exists() or first not in fetched.read_text()
