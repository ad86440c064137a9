"""The SFTP server on a port of its own, in this process; clients run in threads beside it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.folder import DropFolder
from segments.doors.sftp.host_key import EARLIER_FILES, draw
from segments.doors.sftp.public_key import read_public_keys
from segments.doors.sftp.server import SftpServer
from segments.ledger import accounts
from segments.ledger.live_audience import ssh_keys
from segments.model.account import AccountKind
from segments.settings import Settings
from tests.sftp import new_key


@dataclass(frozen=True)
class Door:
    """A server with one partner, `shop`."""

    port: int
    key: Path
    folder: Path  # the partner's


@pytest.fixture(scope="session")
def key_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Host keys, made once: RSA takes a while."""
    folder = tmp_path_factory.mktemp("host-keys")
    for algorithm, file_name in EARLIER_FILES.items():
        draw(algorithm).write_private_key(folder / file_name)
    return folder


@pytest.fixture
async def door(
    settings: Settings, ledger: AsyncEngine, key_dir: Path, tmp_path: Path
) -> AsyncIterator[Door]:
    options = replace(settings.sftp_options, host="127.0.0.1", port=0, key_dir=key_dir)
    public_key = new_key(tmp_path / "shop")
    async with ledger.begin() as conn:
        shop = await accounts.add_account(conn, AccountKind.ADVERTISER, "shop", "Shop", now_s=0)
        for key in read_public_keys(public_key, shop.id):
            await ssh_keys.add_key(conn, key, now_s=0)
    folders = DropFolder(settings.drop_folder)
    async with SftpServer(options, ledger, folders).listening() as port:
        yield Door(port, tmp_path / "shop", settings.drop_folder / "shop")
