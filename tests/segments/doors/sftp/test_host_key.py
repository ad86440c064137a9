import asyncio
import logging
from pathlib import Path

import asyncssh
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.sftp.host_key import EARLIER_FILES, draw, host_keys, own_key
from segments.ledger.database.engine import reading
from segments.ledger.live_audience.host_keys import fingerprints
from segments.model.refusal import Refusal
from tests.sftp import new_key


async def shown(ledger: AsyncEngine, folder: Path) -> list[tuple[str, str]]:
    """What a server that starts shows to its clients."""
    keys = await host_keys(ledger, folder, now_s=0)
    return [(key.get_algorithm(), key.get_fingerprint()) for key in keys]


async def test_servers_that_start_at_once_show_one_key_of_each_kind(
    ledger: AsyncEngine, tmp_path: Path
) -> None:
    one, other = await asyncio.gather(
        shown(ledger, tmp_path / "one"), shown(ledger, tmp_path / "other")
    )

    assert [algorithm for algorithm, _ in one] == ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
    assert one == other == await shown(ledger, tmp_path / "later")
    async with reading(ledger) as conn:
        assert await fingerprints(conn) == one
    assert list(tmp_path.glob("*/host_key*")) == []


async def test_keys_of_the_release_before_are_kept_and_joined_by_those_it_lacked(
    ledger: AsyncEngine, tmp_path: Path
) -> None:
    earlier = draw("ssh-ed25519")
    earlier.write_private_key(tmp_path / EARLIER_FILES["ssh-ed25519"])

    first, *others = await shown(ledger, tmp_path)

    assert first == ("ssh-ed25519", earlier.get_fingerprint())
    assert len(others) == 2
    assert await shown(ledger, tmp_path / "elsewhere") == [first, *others]


async def test_file_that_is_not_the_ledgers_key_is_named_in_the_log(
    ledger: AsyncEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = await shown(ledger, tmp_path)
    file = tmp_path / EARLIER_FILES["ecdsa-sha2-nistp256"]
    draw("ecdsa-sha2-nistp256").write_private_key(file)

    with caplog.at_level(logging.WARNING):
        assert await shown(ledger, tmp_path) == before

    [said] = caplog.messages
    assert str(file) in said
    assert dict(before)["ecdsa-sha2-nistp256"] in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("-t", "ecdsa", "-b", "384"), "not ecdsa-sha2-nistp384", id="another curve"),
        pytest.param(("-t", "rsa", "-b", "1024"), "less than 2048 bits", id="short RSA"),
        pytest.param(("-t", "ed25519", "-N", "open sesame"), "passphrase", id="passphrase"),
        pytest.param(None, "no private key", id="a public key"),
    ],
)
def test_key_that_servers_can_not_show_is_refused(
    options: tuple[str, ...] | None, said: str, tmp_path: Path
) -> None:
    public_key = new_key(tmp_path / "key", *options or ("-t", "ed25519"))
    content = public_key if options is None else (tmp_path / "key").read_bytes()

    with pytest.raises(Refusal, match=said):
        own_key(content)


def test_key_of_ssh_keygen_is_read(tmp_path: Path) -> None:
    public_key = new_key(tmp_path / "key", "-t", "ecdsa")

    key = own_key((tmp_path / "key").read_bytes())

    assert key.get_fingerprint() == asyncssh.import_public_key(public_key).get_fingerprint()
