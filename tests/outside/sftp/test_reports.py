"""
What went wrong between SFTP clients and servers, by public reports, tried on ours.

Each test names the report by its URL; the client is paramiko, down to single packets where
another client sends them so.
"""

import asyncio
import codecs
import json
from collections.abc import Callable
from typing import Any, TypeVar

import asyncssh
import paramiko
import pytest
from paramiko.sftp import (
    CMD_HANDLE,
    CMD_NAME,
    CMD_OPEN,
    CMD_OPENDIR,
    CMD_READDIR,
    CMD_REALPATH,
    CMD_WRITE,
    SFTP_FLAG_APPEND,
    SFTP_FLAG_CREATE,
    SFTP_FLAG_WRITE,
    int64,
)

from segments.doors.live_audience.metadata import read_metadata
from tests.outside.sftp.conftest import Door
from tests.segments.ingest.deliveries import as_json, metadata_of

T = TypeVar("T")


async def by_paramiko(door: Door, do: Callable[[paramiko.SFTPClient], T]) -> T:
    """Log in, do something in a thread, and log out."""

    def done() -> T:
        with paramiko.SSHClient() as client:
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            client.connect(
                "127.0.0.1", door.port, "shop", key_filename=str(door.key),
                allow_agent=False, look_for_keys=False,
            )  # fmt: skip
            with client.open_sftp() as sftp:
                return do(sftp)

    return await asyncio.to_thread(done)


def handle_of(sftp: Any, name: bytes, flags: int) -> bytes:
    kind, message = sftp._request(CMD_OPEN, name, flags, paramiko.SFTPAttributes())
    assert kind == CMD_HANDLE
    handle: bytes = message.get_binary()
    return handle


async def test_times_and_modes_after_an_upload_are_no_error(door: Door) -> None:
    """https://github.com/theophilusx/ssh2-sftp-client/issues/330: FSETSTAT was not permitted."""

    def deliver(sftp: paramiko.SFTPClient) -> None:
        with sftp.open("people.txt", "wb") as file:
            file.write(b"x")
            file.chmod(0o644)
            file.utime((1, 1))
        sftp.chmod("people.txt", 0o600)

    await by_paramiko(door, deliver)

    assert (door.folder / "people.txt").read_bytes() == b"x"


async def test_time_of_a_file_that_we_took_may_still_be_set(door: Door) -> None:
    """https://github.com/paramiko/paramiko/issues/1217: pysftp's preserve_mtime came too late."""

    def deliver(sftp: paramiko.SFTPClient) -> None:
        with sftp.open("people.txt", "wb") as file:
            file.write(b"x")
        (door.folder / "people.txt").unlink()
        sftp.utime("people.txt", (1, 1))

    await by_paramiko(door, deliver)


async def test_file_is_gone_on_with_by_appending(door: Door) -> None:
    """https://github.com/PowerShell/Win32-OpenSSH/issues/310: the flag was a bad message."""

    def deliver(sftp: paramiko.SFTPClient) -> None:
        for mode, data in (("wb", b"hello"), ("ab", b" world")):
            with sftp.open("people.txt", mode) as file:
                file.write(data)

    await by_paramiko(door, deliver)

    assert (door.folder / "people.txt").read_bytes() == b"hello world"


async def test_append_counts_from_the_end_whatever_offset_is_said(door: Door) -> None:
    """https://github.com/libssh2/libssh2/pull/1136: a client counts from the file's beginning."""

    def deliver(sftp: Any) -> None:
        with sftp.open("people.txt", "wb") as file:
            file.write(b"hello")
        flags = SFTP_FLAG_WRITE | SFTP_FLAG_CREATE | SFTP_FLAG_APPEND
        handle = handle_of(sftp, b"people.txt", flags)
        sftp._request(CMD_WRITE, handle, int64(0), b" world")

    await by_paramiko(door, deliver)

    assert (door.folder / "people.txt").read_bytes() == b"hello world"


@pytest.mark.parametrize("path", [b".", b"", b"/", b"/./", b".."])
async def test_path_of_the_folder_is_absolute(door: Door, path: bytes) -> None:
    """https://github.com/validityhq/node-sftp-server/issues/58: FileZilla takes no `.`; and jsch
    asks for the empty path: https://github.com/cmrigney/node-sftp-s3/pull/10
    """

    def ask(sftp: Any) -> bytes:
        kind, message = sftp._request(CMD_REALPATH, path)
        assert (kind, message.get_int()) == (CMD_NAME, 1)
        found: bytes = message.get_binary()
        return found

    assert await by_paramiko(door, ask) == b"/"


async def test_long_names_begin_with_the_kind_of_file(door: Door) -> None:
    """https://github.com/pkg/sftp/pull/452: FileZilla reads the listing in them."""

    def ask(sftp: Any) -> dict[bytes, bytes]:
        with sftp.open("people.txt", "wb") as file:
            file.write(b"x")
        _, message = sftp._request(CMD_OPENDIR, b"/")
        kind, listed = sftp._request(CMD_READDIR, message.get_binary())
        assert kind == CMD_NAME
        names = {}
        for _ in range(listed.get_int()):
            name, long_name = listed.get_binary(), listed.get_binary()
            paramiko.SFTPAttributes._from_msg(listed)
            names[name] = long_name
        return names

    names = await by_paramiko(door, ask)

    assert {name: long_name[:10] for name, long_name in names.items()} == {
        b".": b"drwx------",
        b"..": b"drwx------",
        b"people.txt": b"-rw-------",
    }


async def test_plain_rename_takes_no_name_that_is_taken(door: Door) -> None:
    """https://github.com/drakkan/sftpgo/issues/2068: it wrote over the other file."""

    def deliver(sftp: paramiko.SFTPClient) -> None:
        for name in ("people.tmp", "people.txt"):
            with sftp.open(name, "wb") as file:
                file.write(name.encode())
        with pytest.raises(OSError, match="already"):
            sftp.rename("people.tmp", "people.txt")

    await by_paramiko(door, deliver)

    assert (door.folder / "people.txt").read_bytes() == b"people.txt"


async def test_rename_of_openssh_writes_over_the_other_file(door: Door) -> None:
    """https://github.com/mscdex/ssh2-streams/issues/152: clients want it for their second try."""

    def deliver(sftp: paramiko.SFTPClient) -> None:
        for name in ("people.txt.part", "people.txt"):
            with sftp.open(name, "wb") as file:
                file.write(name.encode())
        sftp.posix_rename("people.txt.part", "people.txt")

    await by_paramiko(door, deliver)

    assert (door.folder / "people.txt").read_bytes() == b"people.txt.part"


async def test_keepalive_of_a_client_is_answered(door: Door) -> None:
    """https://github.com/janmojzis/tinyssh/issues/86: no answer, and the client went away."""

    def ask(sftp: paramiko.SFTPClient) -> bool:
        channel = sftp.get_channel()
        assert channel is not None
        transport = channel.get_transport()
        transport.global_request("keepalive@openssh.com", wait=True)
        return bool(transport.is_active()) and sftp.listdir() == []

    assert await by_paramiko(door, ask)


@pytest.mark.parametrize("size_bytes", [1 << 18, 255_000, 33_000])
async def test_large_write_in_one_packet_is_whole(door: Door, size_bytes: int) -> None:
    """https://github.com/binaricat/Netcatty/pull/2030: above 32 KiB uploads were cut."""
    data = bytes(range(256)) * (size_bytes // 256 + 1)
    data = data[: size_bytes - 1024]  # and the head of the packet

    def deliver(sftp: Any) -> None:
        handle = handle_of(sftp, b"people.txt", SFTP_FLAG_WRITE | SFTP_FLAG_CREATE)
        sftp._request(CMD_WRITE, handle, int64(0), data)

    await by_paramiko(door, deliver)

    assert (door.folder / "people.txt").read_bytes() == data


async def test_writes_in_any_order_make_the_file(door: Door) -> None:
    """https://github.com/ronf/asyncssh/issues/506: segments were missing."""
    parts = [bytes([n]) * 1000 for n in range(30)]

    def deliver(sftp: Any) -> None:
        handle = handle_of(sftp, b"people.txt", SFTP_FLAG_WRITE | SFTP_FLAG_CREATE)
        for n in reversed(range(len(parts))):
            sftp._request(CMD_WRITE, handle, int64(n * 1000), parts[n])

    await by_paramiko(door, deliver)

    assert (door.folder / "people.txt").read_bytes() == b"".join(parts)


async def test_file_that_was_just_opened_has_a_size(door: Door) -> None:
    """https://github.com/sshnet/SSH.NET/issues/154: a client asks so before it writes; and of a
    stat without a size https://github.com/paramiko/paramiko/issues/1918
    """

    def ask(sftp: paramiko.SFTPClient) -> tuple[int | None, int | None]:
        with sftp.open("people.txt", "wb") as file:
            return file.stat().st_size, sftp.stat("people.txt").st_size

    assert await by_paramiko(door, ask) == (0, 0)


@pytest.mark.parametrize("path", ["/", "."])
async def test_folder_that_is_there_is_made_by_saying_so(door: Door, path: str) -> None:
    """https://github.com/ronf/asyncssh/pull/478: clients make every folder of the path first."""
    async with (
        asyncssh.connect(
            "127.0.0.1", door.port, username="shop", client_keys=[str(door.key)],
            known_hosts=None, config=None,
        ) as conn,
        conn.start_sftp_client() as sftp,
    ):  # fmt: skip
        await sftp.makedirs(path, exist_ok=True)

        assert await sftp.isdir(path)


async def test_client_that_offers_a_newer_version_gets_the_one_we_speak(door: Door) -> None:
    """https://github.com/sshnet/SSH.NET/issues/154: with version 6 WinSCP failed at another's."""
    async with (
        asyncssh.connect(
            "127.0.0.1", door.port, username="shop", client_keys=[str(door.key)],
            known_hosts=None, config=None,
        ) as conn,
        conn.start_sftp_client(sftp_version=6) as sftp,
    ):  # fmt: skip
        assert sftp.version == 3
        assert await sftp.listdir() == [".", ".."]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(codecs.BOM_UTF16_LE, "utf-16-le"), (b"", "utf-16-le"), (codecs.BOM_UTF8, "utf-8")],
)
def test_metadata_may_be_as_powershell_writes_it(mark: bytes, encoding: str) -> None:
    """https://github.com/jqlang/jq/issues/2351: `>` made UTF-16 of JSON, which nothing read."""
    said = as_json(metadata_of(b"x", records=1, partner_id="shop"))
    text = json.dumps(json.loads(said), indent=2)

    assert read_metadata(mark + text.encode(encoding)) == read_metadata(said)
