"""The SFTP door on a disk that fills up: its clients are told, and nothing half is taken."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from segments.ledger import accounts, quotas
from segments.ledger.database.engine import open_ledger
from segments.model.quota import UNLIMITED, Quota
from tests.edge.sftp_door import is_taken, log, status_of, write_delivery
from tests.sftp import Door
from tests.small_disk import MIB, SmallDisk, mounted

RESERVE_BYTES = 8 * MIB


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[tuple[Door, SmallDisk]]:
    with mounted(tmp_path / "small", size_bytes=48 * MIB) as disk:
        door = Door(disk.path, SEGMENTS_RESERVE_BYTES=str(RESERVE_BYTES))
        await door.add_partner("shop")
        async with door.running():
            yield door, disk


async def test_put_fails_before_the_disk_is_in_its_reserve_and_is_taken_afterwards(
    small: tuple[Door, SmallDisk], tmp_path: Path
) -> None:
    door, disk = small
    (tmp_path / "large.txt").write_bytes(bytes(4 * MIB))
    disk.fill(but_bytes=RESERVE_BYTES + 2 * MIB)

    put = await door.sftp("shop", f"put {tmp_path / 'large.txt'}")
    free_bytes = disk.free_bytes()
    disk.make_room()
    write_delivery(tmp_path)
    again = await door.sftp(
        "shop", f"put {tmp_path / 'people.txt'}", f"put {tmp_path / 'people.txt.json'}"
    )

    assert put.status == 1
    assert "ailure" in put.said
    assert free_bytes >= RESERVE_BYTES
    assert again.status == 0, again.said
    await is_taken(door)
    assert "write refused: the drop folder has no room but what is kept" in log(door)


async def test_file_of_which_a_write_failed_is_no_whole_file(
    small: tuple[Door, SmallDisk], tmp_path: Path
) -> None:
    """
    OpenSSH's client writes on behind the failure, and closes the file: a last piece that found
    room would make it whole.
    """
    door, disk = small
    write_delivery(tmp_path, content=b"%064x\n" % 1 * 100_000)
    disk.fill(but_bytes=RESERVE_BYTES + 2 * MIB)
    first = await door.sftp("shop", f"put {tmp_path / 'people.txt.json'}")
    put = await door.sftp("shop", f"put {tmp_path / 'people.txt'}")
    is_marked = (door.partner_folder("shop") / ".unfinished" / "people.txt").exists()
    disk.make_room()

    again = await door.sftp("shop", f"put {tmp_path / 'people.txt'}")

    assert (first.status, put.status, is_marked, again.status) == (0, 1, True, 0)
    await is_taken(door)
    assert "error" not in status_of(door)


async def test_put_of_a_partner_whose_quota_is_used_up_fails_before_its_first_byte(
    small: tuple[Door, SmallDisk], tmp_path: Path
) -> None:
    door, _ = small
    write_delivery(tmp_path)
    await limit(door, Quota(deliveries_per_day=0))
    put = await door.sftp("shop", f"put {tmp_path / 'people.txt'}")
    left = list(door.partner_folder("shop").glob("*.txt"))
    await limit(door, UNLIMITED)

    again = await door.sftp("shop", f"put {tmp_path / 'people.txt'}")

    assert (put.status, left, again.status) == (1, [], 0)
    assert "open refused: the quota of 0 deliveries a day is used up" in log(door)


async def limit(door: Door, quota: Quota) -> None:
    async with open_ledger(door.settings.ledger_dsn) as ledger, ledger.begin() as conn:
        await quotas.set_quota(conn, (await accounts.partner(conn, "shop")).id, quota)
