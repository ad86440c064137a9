"""What clients of SFTP make of a server's full disk, by public reports, tried on ours."""

import asyncssh
import pytest

from segments.settings import Settings
from tests.outside.sftp.conftest import Door


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings of a disk on which nothing is left but the reserve."""
    return settings.model_copy(update={"reserve_bytes": 1 << 60})


async def test_refusal_has_a_code_of_version_3_and_says_why(door: Door) -> None:
    """
    https://github.com/sshnet/SSH.NET/issues/343: a code of later versions (14, "no space on
    filesystem") left the client waiting for ever. https://github.com/restic/restic/issues/3336:
    a bare failure told nobody that the disk was full.
    """
    async with (
        asyncssh.connect(
            "127.0.0.1", door.port, username="shop", client_keys=[str(door.key)], known_hosts=None
        ) as conn,
        conn.start_sftp_client() as sftp,
    ):
        with pytest.raises(asyncssh.SFTPFailure) as caught:
            await sftp.open("people.txt", "wb")

    assert caught.value.code == asyncssh.FX_FAILURE
    assert "has no room" in caught.value.reason
    assert not (door.folder / "people.txt").exists()
