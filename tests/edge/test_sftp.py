"""
The SFTP door through OpenSSH's own clients: what partners have.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
import pytest

from loadtest.ports import free_ports
from segments.console.formats import moment
from segments.ledger import accounts
from segments.ledger.database.engine import open_ledger
from segments.ledger.live_audience import ssh_keys
from segments.store.servers.connection import connect
from tests.console import serving_console
from tests.edge.client import ENRICH
from tests.edge.small_store import added_data, bid_request, eventually
from tests.engines import Engine
from tests.postgres import Postgres
from tests.segments.ingest.deliveries import as_json, email_hashes, metadata_of, text_of
from tests.sftp import WITHIN_S, Door, new_key, stop, until

HASHES = email_hashes(50)
CONTENT = text_of(HASHES)


@pytest.fixture
async def stopped_door(tmp_path: Path) -> Door:
    """A door with two partners, not open yet."""
    door = Door(tmp_path)
    (tmp_path / "later").mkdir()
    await door.add_partner("shop")
    await door.add_partner("rival")
    return door


@pytest.fixture
async def door(stopped_door: Door) -> AsyncIterator[Door]:
    """A door with two partners."""
    async with stopped_door.running():
        yield stopped_door


def write_delivery(folder: Path, partner_id: str = "shop", content: bytes = CONTENT) -> str:
    """Write `request.json` and the data file it describes; return the latter's name."""
    metadata = metadata_of(content, records=len(content.splitlines()), partner_id=partner_id)
    name: str = metadata["file"]["name"]
    (folder / name).write_bytes(content)
    (folder / "request.json").write_bytes(as_json(metadata))
    return name


def status_of(door: Door, partner_id: str = "shop", name: str = "request") -> Any:
    path = door.partner_folder(partner_id) / f"{name}.status"
    return json.loads(path.read_bytes()) if path.exists() else None


# -- a delivery ----------------------------------------------------------------


async def test_file_delivered_by_sftp_changes_what_the_next_bid_shows(
    tmp_path: Path, valkey: Engine
) -> None:
    """
    The whole way: key, upload, both answers fetched by the client, and a bid.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as free,
        socket.create_server(("127.0.0.1", 0)) as admin,
    ):
        port, admin_port = free.getsockname()[1], admin.getsockname()[1]
    door = Door(
        tmp_path,
        SEGMENTS_REDIS_URL=valkey.url,
        RTB_HOST="127.0.0.1",
        RTB_PORT=str(port),
        RTB_ADMIN_PORT=str(admin_port),
        RTB_STOP_ACCEPTING_AFTER_S="0",
        RTB_DEADLINE_CAP_MS="2000",
        RTB_TMAX_SHARE="1",
    )
    await door.add_partner("shop")
    await door.add_recipient("dsp-a", "shop")
    name = write_delivery(tmp_path)
    loader = await door.command("loader")
    rtb = await _bid_listener(door)
    try:
        async with door.running():
            sent = await door.sftp("shop", f"put {name}", "put request.json", "ls -l")
            assert sent.status == 0, sent.said
            await until(lambda: "code" in str(status_of(door)))
            fetched = await door.sftp("shop", "get request.status")
            assert fetched.status == 0, fetched.said

            data = await _shown_segments(port)
    finally:
        for process in (rtb, loader):
            await stop(process)

    answer = json.loads((tmp_path / "request.status").read_bytes())
    assert answer["segments"] == [{"id": "123", "action": "add", "code": "OK", "records": 50}]
    assert data == [{"id": "shop", "name": "shop", "segment": [{"id": "123"}]}]


async def test_metadata_is_answered_in_the_folder_at_once(door: Door) -> None:
    write_delivery(door.folder)

    await door.sftp("shop", "put request.json")
    await until(lambda: status_of(door) is not None)

    listed = await door.sftp("shop", "ls -1")
    assert listed.said.splitlines()[1:] == ["request.status"]
    assert status_of(door)["transaction_id"].isdecimal()


async def test_partner_reads_renames_and_removes_its_files(door: Door) -> None:
    (door.folder / "a.txt").write_bytes(CONTENT)

    ran = await door.sftp(
        "shop", "put a.txt a.txt.filepart", "rename a.txt.filepart a.txt", "put a.txt b.txt",
        "get a.txt back.txt", "rm b.txt", "ls -1", "ls -ln", "pwd",
    )  # fmt: skip

    assert ran.status == 0, ran.said
    assert (door.folder / "back.txt").read_bytes() == CONTENT
    said = ran.said.splitlines()
    assert said[said.index("sftp> ls -1") + 1] == "a.txt"
    assert "Remote working directory: /" in ran.said
    assert re.search(rf"-rw------- +\S+ 0 +0 +{len(CONTENT)} .* a.txt", ran.said)  # no user of ours


# -- uploads that break off ----------------------------------------------------


async def _half_uploaded(door: Door) -> tuple[str, Process]:
    """Upload a file as a slow client does, until some of it is there; return its name."""
    content = text_of(email_hashes(20_000))
    name = write_delivery(door.folder, content=content)
    client = await door.begin_sftp(
        "shop", "put request.json", f"put {name}", options=["-l", "4000"]
    )
    arriving = door.partner_folder("shop") / name
    await until(lambda: arriving.exists() and arriving.stat().st_size > 100_000)
    assert client.returncode is None
    return name, client


async def test_broken_upload_is_not_taken_and_can_be_resumed(door: Door) -> None:
    name, client = await _half_uploaded(door)
    os.killpg(client.pid, signal.SIGKILL)
    await client.wait()
    await until(lambda: "unfinished" in door.log.read_text())
    arrived = door.partner_folder("shop") / name
    await until(lambda: status_of(door) is not None)
    await _a_whole_turn(door)
    assert 0 < arrived.stat().st_size < (door.folder / name).stat().st_size

    resumed = await door.sftp("shop", f"reput {name}")

    assert resumed.status == 0, resumed.said
    await until(lambda: _is_fetched(door, name))
    assert _blobs(door) == [(door.folder / name).read_bytes()]


async def test_upload_that_a_killed_server_left_is_not_taken(stopped_door: Door) -> None:
    """
    What was half there when the server died is still half there.
    """
    door = stopped_door
    await door.start()
    name, client = await _half_uploaded(door)
    await until(lambda: status_of(door) is not None)
    await door.stop(signal.SIGKILL)
    await client.wait()
    arrived = door.partner_folder("shop") / name

    async with door.running():
        await _a_whole_turn(door)
        assert arrived.exists()

        again = await door.sftp("shop", f"put {name}")

        assert again.status == 0, again.said
        await until(lambda: _is_fetched(door, name))
    assert _blobs(door) == [(door.folder / name).read_bytes()]


async def _a_whole_turn(door: Door) -> None:
    """
    Wait until the door has looked for data files again: it fetches another one
    that came in the meantime, and it fetches them in the order of their metadata.
    """
    write_delivery(door.folder / "later", content=b"")
    (door.folder / "later" / "request.json").rename(door.folder / "later" / "later.json")
    name = metadata_of(b"", records=0)["file"]["name"]
    sent = await door.sftp("shop", f"put later/{name}", "put later/later.json")
    assert sent.status == 0, sent.said
    await until(lambda: not (door.partner_folder("shop") / name).exists())


def _is_fetched(door: Door, name: str) -> bool:
    """Tell whether a data file has gone from the folder, and its copy of ours as well."""
    folder = door.partner_folder("shop")
    return not (folder / name).exists() and not list((folder / ".taken").iterdir())


def _blobs(door: Door) -> list[bytes]:
    """Return what was taken, but for empty files."""
    paths = (door.settings.data_dir / "blobs").rglob("*")
    return [path.read_bytes() for path in paths if path.is_file() and path.stat().st_size]


# -- who gets in, and to what --------------------------------------------------


async def test_only_a_key_of_the_partner_opens_its_folder(door: Door) -> None:
    new_key(door.folder / "stranger")

    for user, key in (("shop", "rival"), ("shop", "stranger"), ("nobody", "shop")):
        ran = await door.sftp(user, "ls", key=key)
        assert ran.status == 255
        # The same words for a partner that there is and one that there is not.
        assert f"{user}@127.0.0.1: Permission denied (publickey)." in ran.said


async def test_key_of_a_partner_that_was_switched_off_opens_nothing(door: Door) -> None:
    async with open_ledger(door.settings.ledger_dsn) as ledger, ledger.begin() as conn:
        await accounts.set_account_active(conn, await accounts.partner(conn, "shop"), False)

    assert (await door.sftp("shop", "ls")).status == 255


async def test_a_partner_reads_when_its_key_was_last_used(door: Door, valkey: Engine) -> None:
    since_s = int(time.time())
    assert (await door.sftp("shop", "ls")).status == 0
    await eventually(lambda: _uses(door, [True, False]))

    async with (
        open_ledger(door.settings.ledger_dsn) as ledger,
        connect(valkey.url) as redis,
        serving_console(door.settings, ledger, redis) as console,
    ):
        async with ledger.connect() as conn:
            (key, _) = await ssh_keys.keys(conn)
            shop, rival = [await accounts.partner(conn, name) for name in ("shop", "rival")]
        async with console.user_of(shop) as browser:
            of_shop = await browser.see("/keys")
        async with console.user_of(rival) as browser:
            of_rival = await browser.see("/keys")

    assert key.used_at_s is not None
    assert since_s <= key.used_at_s <= time.time()
    assert f'data-name="Last used">{moment(key.used_at_s)}<' in of_shop.text
    assert "not noted" not in of_shop.said
    assert "not noted" in of_rival.said


async def test_removed_key_ends_the_connections_it_opened(door: Door) -> None:
    async with _connected(door, "shop") as client:
        await client.start_sftp_client()
        await eventually(lambda: _uses(door, [True, False]))
        async with open_ledger(door.settings.ledger_dsn) as ledger, ledger.begin() as conn:
            (key, _) = await ssh_keys.keys(conn)
            partner = await accounts.partner(conn, "shop")
            await ssh_keys.remove_key(conn, partner, key.fingerprint)

        await asyncio.wait_for(client.wait_closed(), WITHIN_S)


async def test_partner_sees_its_own_files_only(door: Door) -> None:
    (door.folder / "secret.txt").write_bytes(b"rival's")
    assert (await door.sftp("rival", "put secret.txt")).status == 0

    for line in (
        "get /rival/secret.txt", "get ../rival/secret.txt", "get /../../rival/secret.txt",
        "get secret.txt", "ls /rival", "cd /rival", "cd ..\nls secret.txt", "get /etc/passwd",
        f"get {door.settings.drop_folder}/rival/secret.txt", "ls .unfinished", "cd .taken",
    ):  # fmt: skip
        ran = await door.sftp("shop", line)
        assert ran.status == 1, line
    assert not (door.folder / "passwd").exists()


async def test_link_that_lies_in_the_folder_is_not_followed(door: Door) -> None:
    await door.sftp("shop", "ls")
    (door.partner_folder("shop") / "passwd").symlink_to("/etc/passwd")
    (door.partner_folder("shop") / "up").symlink_to(door.settings.drop_folder)

    assert (await door.sftp("shop", "get passwd")).status == 1
    assert (await door.sftp("shop", "ls up/rival")).status == 1
    (door.folder / "passwd").write_bytes(b"mine now")
    assert (await door.sftp("shop", "put passwd")).status == 1
    listed = await door.sftp("shop", "ls -1")
    assert "passwd" not in listed.said


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("mkdir x", id="folder"),
        pytest.param("symlink a.txt b.txt", id="symbolic link"),
        pytest.param("ln a.txt b.txt", id="hard link"),
        pytest.param("put a.txt .taken", id="a folder of ours"),
        pytest.param("put a.txt ../b.txt.status", id="an answer of ours"),
        pytest.param("rename a.txt b.status", id="an answer of ours, by renaming"),
        pytest.param("put a.txt x\x07y", id="control character"),
        pytest.param("put a.txt sub/b.txt", id="path"),
        pytest.param("put a.txt " + "x" * 249 + ".json", id="name without end"),
        pytest.param("df", id="free space"),
    ],
)
async def test_what_there_is_not_is_refused(door: Door, line: str) -> None:
    (door.folder / "a.txt").write_bytes(b"x")
    assert (await door.sftp("shop", "put a.txt")).status == 0

    assert (await door.sftp("shop", line)).status == 1

    names = sorted(path.name for path in door.partner_folder("shop").iterdir())
    assert [name for name in names if not name.startswith(".")] == ["a.txt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["shop@127.0.0.1", "id"], "exec request failed", id="command"),
        pytest.param(["-T", "shop@127.0.0.1"], "shell request failed", id="shell"),
        pytest.param(["-tt", "shop@127.0.0.1"], "request failed", id="terminal"),
        pytest.param(["-s", "shop@127.0.0.1", "netconf"], "subsystem request", id="subsystem"),
        pytest.param(
            ["-W", "127.0.0.1:22", "shop@127.0.0.1"], "forwarding failed", id="forwarding to a host"
        ),
        pytest.param(
            ["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:22", "shop@127.0.0.1"],
            "remote port forwarding failed",
            id="forwarding from here",
        ),
    ],
)
async def test_there_is_nothing_but_sftp(door: Door, arguments: list[str], said: str) -> None:
    ran = await door.ssh("shop", *arguments)

    assert ran.status != 0
    assert said in ran.said


async def test_login_while_the_ledger_is_away_says_come_again(
    postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres.url(postgres.new_database())
    folder = tmp_path / "with-postgres"
    folder.mkdir()
    door = Door(folder, SEGMENTS_LEDGER_URL=url)
    new_key(door.folder / "shop")
    async with door.running():
        await asyncio.to_thread(postgres.stop)
        away = await door.sftp("shop", "ls")
        await asyncio.to_thread(postgres.start)
        unknown = await door.sftp("shop", "ls")

    assert "come again" in away.said
    assert "Permission denied (publickey)" in unknown.said


async def test_password_is_not_asked_for(door: Door) -> None:
    ran = await door.ssh(
        "shop", "-v", "-o", "PubkeyAuthentication=no", "-o", "LogLevel=DEBUG1", "shop@127.0.0.1"
    )

    assert ran.status == 255
    assert "Permission denied (publickey)" in ran.said


async def test_restarted_server_and_its_replica_are_recognised(
    stopped_door: Door, tmp_path: Path
) -> None:
    """
    A client refuses a server whose key is another than the one it remembers.
    """
    replica = Door(tmp_path / "later", SEGMENTS_LEDGER_URL=stopped_door.settings.ledger_dsn)
    async with stopped_door.running():
        assert (await stopped_door.sftp("shop", "ls")).status == 0
    async with stopped_door.running(), replica.running():
        for port in (stopped_door.port, replica.port):
            stopped_door.port = port
            assert (await stopped_door.sftp("shop", "ls")).status == 0
        [known] = (tmp_path / "known_hosts").read_text().splitlines()
    assert known.startswith("door ssh-ed25519 ")


async def test_log_names_partners_but_no_addresses(door: Door) -> None:
    await door.sftp("shop", "ls")

    log = door.log.read_text()
    assert "'shop' logged in" in log
    assert "127.0.0.1" not in log


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /leaker@acme.example HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(b"leaker@acme.example" * 9999, id="a line without end"),
        pytest.param(b"SSH-2.0-leaker@acme.example\r\n" + b"leaker" * 999, id="no packet"),
        pytest.param(b"SSH-1.5-leaker@acme.example\r\n", id="another version"),
    ],
)
async def test_what_is_no_ssh_is_said_nowhere(door: Door, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(sent)
    writer.write_eof()
    answer = b""
    with suppress(ConnectionResetError):  # what was left unread
        async with asyncio.timeout(WITHIN_S):
            while piece := await reader.read(1024):
                answer += piece
    writer.close()
    await door.sftp("shop", "ls")

    assert b"leaker" not in answer
    assert "leaker" not in door.log.read_text()
    assert "127.0.0.1" not in door.log.read_text()


async def test_what_happens_is_counted_and_names_nobody(tmp_path: Path) -> None:
    (admin_port,) = free_ports(1)
    door = Door(
        tmp_path, SEGMENTS_SFTP_ADMIN_PORT=str(admin_port), SEGMENTS_SFTP_MAX_FILE_BYTES="100000"
    )
    await door.add_partner("shop")
    new_key(tmp_path / "stranger")
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    (tmp_path / "larger.txt").write_bytes(bytes(100_001))

    async with door.running():
        await door.sftp("shop", "put a.txt planted.txt", "ls", "get planted.txt b.txt",
                        "rename planted.txt b.txt", "rm b.txt", "put larger.txt")  # fmt: skip
        await door.sftp("shop", "mkdir planted")
        await door.sftp("shop", "ls", key="stranger")
        async with _connected(door, "shop") as client:
            await client.start_sftp_client()
            shown = await _metrics(admin_port)

    assert shown["segments_sftp_connections"] == 1
    assert shown["segments_sftp_sessions"] == 1
    assert shown['segments_sftp_logins_total{result="accepted"}'] == 3
    assert shown['segments_sftp_logins_total{result="refused"}'] == 1
    assert shown['segments_sftp_uploads_total{result="finished"}'] >= 1
    assert shown['segments_sftp_requests_total{operation="rename",result="ok"}'] == 1
    assert shown['segments_sftp_requests_total{operation="remove",result="ok"}'] == 1
    assert shown['segments_sftp_requests_total{operation="write",result="refused"}'] >= 1
    assert shown["segments_sftp_received_bytes_total"] >= 1000
    assert shown["segments_sftp_sent_bytes_total"] == 1000
    assert not any("planted" in name or "shop" in name for name in shown)


# -- limits --------------------------------------------------------------------


async def test_file_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    door = Door(tmp_path, SEGMENTS_SFTP_MAX_FILE_BYTES="100000")
    await door.add_partner("shop")
    (tmp_path / "fits.txt").write_bytes(bytes(100_000))
    (tmp_path / "larger.txt").write_bytes(bytes(100_001))

    async with door.running():
        fits = await door.sftp("shop", "put fits.txt")
        larger = await door.sftp("shop", "put larger.txt")

    assert fits.status == 0, fits.said
    assert larger.status == 1
    assert (door.partner_folder("shop") / "larger.txt").stat().st_size <= 100_000


@pytest.mark.long
@pytest.mark.timeout(2400)
async def test_five_gibibytes_are_taken_and_not_one_byte_more(
    door: Door, record_property: Callable[[str, object], None]
) -> None:
    """
    The largest file there may be, of nothing, so that it takes no space here.
    """
    arrived = door.partner_folder("shop") / "large.txt"
    with (door.folder / "large.txt").open("wb") as file:
        file.truncate(5 << 30)
    client = await door.begin_sftp("shop", "put large.txt")
    said, _ = await asyncio.wait_for(client.communicate(), 2000)
    size_bytes = arrived.stat().st_size
    with (door.folder / "large.txt").open("ab") as file:
        file.write(b"x")

    larger = await door.sftp("shop", "reput large.txt")

    record_property("peak_kb", door.peak_memory_kb())
    arrived.unlink()
    assert client.returncode == 0, said
    assert larger.status == 1
    assert size_bytes == 5 << 30
    assert door.peak_memory_kb() < 200 << 10


async def test_session_holds_so_many_files_open_and_no_more(tmp_path: Path) -> None:
    door = Door(tmp_path, SEGMENTS_SFTP_MAX_HANDLES="2")
    await door.add_partner("shop")

    async with door.running(), _connected(door, "shop") as client:
        sftp = await client.start_sftp_client()
        files = [await sftp.open(f"{n}.txt", "wb") for n in range(2)]
        with pytest.raises(asyncssh.SFTPFailure, match="more than 2"):
            await sftp.open("3.txt", "wb")
        await files[0].close()
        await sftp.open("3.txt", "wb")


async def test_partner_has_so_many_sessions_and_no_more(tmp_path: Path) -> None:
    door = Door(tmp_path, SEGMENTS_SFTP_MAX_SESSIONS_PER_PARTNER="1")
    await door.add_partner("shop")
    await door.add_partner("rival")

    async with door.running():
        async with _connected(door, "shop") as client:
            await client.start_sftp_client()
            assert (await door.sftp("shop", "ls")).status == 255
            assert (await door.sftp("rival", "ls")).status == 0

        async def is_free() -> bool:
            return (await door.sftp("shop", "ls")).status == 0

        async with asyncio.timeout(WITHIN_S):
            while not await is_free():
                pass


async def test_so_many_clients_are_connected_and_no_more(tmp_path: Path) -> None:
    door = Door(tmp_path, SEGMENTS_SFTP_MAX_SESSIONS="1")
    await door.add_partner("shop")

    async with door.running(), _connected(door, "shop") as client:
        await client.start_sftp_client()
        assert (await door.sftp("shop", "ls")).status == 255


async def test_session_whose_file_another_has_opened_writes_to_it_no_more(door: Door) -> None:
    """
    A client that comes back before the server noticed that it had gone.
    """
    async with _connected(door, "shop") as stale, _connected(door, "shop") as back:
        old = await (await stale.start_sftp_client()).open("a.txt", "wb")
        await old.write(b"old")
        async with (await back.start_sftp_client()).open("a.txt", "wb") as new:
            await new.write(b"new")
            with pytest.raises(asyncssh.SFTPFailure, match="another session"):
                await old.write(b"stale")

    assert (door.partner_folder("shop") / "a.txt").read_bytes() == b"new"


# ------------------------------------------------------------------------------


async def _metrics(port: int) -> dict[str, float]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def _connected(door: Door, partner_id: str) -> Any:
    """Connect a client that can be held at any point, which OpenSSH's can't."""
    return asyncssh.connect(
        "127.0.0.1",
        door.port,
        username=partner_id,
        client_keys=[str(door.folder / partner_id)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


async def _uses(door: Door, expected: list[bool]) -> bool:
    """Tell whether the ledger says of these keys, in order, when they were last used."""
    async with open_ledger(door.settings.ledger_dsn) as ledger, ledger.connect() as conn:
        return [key.used_at_s is not None for key in await ssh_keys.keys(conn)] == expected


async def _bid_listener(door: Door) -> Process:
    with door.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rtb",
            env=door.environment, cwd=door.folder, stdin=DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


async def _shown_segments(port: int) -> Any:
    """Bid until the person's segments are shown; a new audience takes up to a second."""
    async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as session:
        while True:
            try:
                url = f"http://127.0.0.1:{port}{ENRICH}"
                async with session.post(url, data=bid_request(HASHES[0])) as answer:
                    body = await answer.read()
                    if answer.headers["X-Enrich-Outcome"] == "enriched":
                        return added_data(body)
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)
